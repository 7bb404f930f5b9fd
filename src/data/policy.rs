//! What is done to pictures of any size and mode so that they make one data set: the flags of `ganymede data` and the keys of a config file.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Largest height or width that pictures are resized to.
pub const MAX_SIZE: u32 = 4096;

/// How pictures become images of one size and one number of channels. The default changes no pixel of what already fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ImagePolicy {
    /// How pictures of another size are brought to `size`; `None` refuses them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resize: Option<Resize>,
    /// Height and width in pixels; `None` is the size that all pictures have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
    /// Colour behind transparent pixels, and beside pictures that [`Resize::Fit`] does not fill. White, as on the page of a browser.
    pub background: Background,
    /// Channels of the data set.
    pub colour: Colour,
    /// Where labels come from.
    pub labels: Labels,
}

/// How a picture is brought to a square size. A picture that has the size already is never touched.
///
/// Pixels are made by Catmull-Rom interpolation, widened when shrinking so that nothing aliases. It has no transcendental function, so that the
/// same picture gives the same bytes on every platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Resize {
    /// The whole picture, in its proportions, centred on the background colour.
    Fit,
    /// The largest square in the middle.
    Crop,
    /// The whole picture, whatever becomes of its proportions.
    Stretch,
}

/// Channels of the data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Colour {
    /// Grey if every pixel of every picture has equal red, green and blue, however it is stored; else RGB. Arrays keep the channels they have.
    #[default]
    Auto,
    /// One channel, by the weights of Rec. 709.
    Grey,
    /// Three channels.
    Rgb,
}

/// Where labels come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Labels {
    /// Those that the data itself carries (`dataset.json`, an IDX labels file, CIFAR-10, an array of labels), if any.
    #[default]
    Auto,
    /// None, whatever the data carries.
    None,
    /// The sub-folder: the first one that not all pictures share.
    Folders,
    /// `dataset.json`, which must be there and hold labels.
    Json,
}

impl Labels {
    /// Its name in files and flags.
    pub fn name(self) -> &'static str {
        match self {
            Labels::Auto => "auto",
            Labels::None => "none",
            Labels::Folders => "folders",
            Labels::Json => "json",
        }
    }
}

/// An opaque colour; as text `RRGGBB`, with or without `#`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Background(pub [u8; 3]);

impl Default for Background {
    fn default() -> Self {
        Self([255; 3])
    }
}

impl FromStr for Background {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix('#').unwrap_or(text);
        let value =
            (digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_hexdigit())).then(|| u32::from_str_radix(digits, 16).ok()).flatten();
        let [_, red, green, blue] =
            value.ok_or_else(|| format!("'{text}' is no colour: expected RRGGBB in hexadecimal, such as ffffff for white"))?.to_be_bytes();
        Ok(Self([red, green, blue]))
    }
}

impl TryFrom<String> for Background {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [red, green, blue] = self.0;
        write!(f, "{red:02x}{green:02x}{blue:02x}")
    }
}

impl From<Background> for String {
    fn from(background: Background) -> Self {
        background.to_string()
    }
}

impl ImagePolicy {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// [`Error::Input`] if a size is missing or out of range.
    pub fn check(&self) -> Result<()> {
        if let Some(size) = self.size
            && !(1..=MAX_SIZE).contains(&size)
        {
            return Err(Error::input(format!("size is {size}; expected 1 to {MAX_SIZE} pixels")));
        }
        if self.resize.is_some() && self.size.is_none() {
            return Err(Error::input("resize needs a size to resize to: give --size N too"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_from_toml_and_written_back() {
        let text = "resize = \"crop\"\nsize = 64\nbackground = \"00ff7f\"\ncolour = \"rgb\"\nlabels = \"folders\"\n";
        let policy: ImagePolicy = toml::from_str(text).unwrap();
        let expected = ImagePolicy {
            resize: Some(Resize::Crop),
            size: Some(64),
            background: Background([0, 255, 127]),
            colour: Colour::Rgb,
            labels: Labels::Folders,
        };
        assert_eq!(policy, expected);
        assert_eq!(toml::to_string(&policy).unwrap(), text);
        assert_eq!(toml::from_str::<ImagePolicy>("").unwrap(), ImagePolicy::default());
        let round: ImagePolicy = toml::from_str(&toml::to_string(&ImagePolicy::default()).unwrap()).unwrap();
        assert_eq!(round, ImagePolicy::default());
        for bad in ["color = \"rgb\"", "resize = \"zoom\"", "background = \"white\"", "background = \"#12345\"", "size = -1"] {
            assert!(toml::from_str::<ImagePolicy>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_checked() {
        let with = |resize, size| ImagePolicy { resize, size, ..ImagePolicy::default() }.check();
        assert!(with(None, None).is_ok() && with(None, Some(64)).is_ok() && with(Some(Resize::Fit), Some(MAX_SIZE)).is_ok());
        assert!(with(Some(Resize::Fit), None).unwrap_err().to_string().contains("--size"));
        for size in [0, MAX_SIZE + 1] {
            assert!(with(None, Some(size)).unwrap_err().to_string().contains("1 to 4096"));
        }
    }
}
