//! `ganymede data`: what is in a data set, what is wrong with it, and other forms of it.

use std::io::BufWriter;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use crate::data::policy::{Background, Colour, ImagePolicy, Labels, Resize};
use crate::data::{self, LoadOptions, Split};
use crate::error::{Error, Result};
use crate::run::disk;

#[derive(Debug, Args)]
pub struct DataArgs {
    #[command(subcommand)]
    what: DataCommand,
}

#[derive(Debug, Subcommand)]
enum DataCommand {
    /// List every broken, odd-sized, odd-mode or duplicate image; exit code 2 if any would stop training
    Check(CheckArgs),
    /// Write a ZIP of pictures that loads fast, of one size, with the labels inside
    Convert(ConvertArgs),
    /// Draw a contact sheet: a row per class, with its name
    Sheet(SheetArgs),
}

#[derive(Debug, Args)]
struct CheckArgs {
    #[command(flatten)]
    source: SourceArgs,
}

#[derive(Debug, Args)]
struct ConvertArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Archive to write
    #[arg(long, value_name = "FILE.zip")]
    out: PathBuf,
}

#[derive(Debug, Args)]
struct SheetArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Picture to write
    #[arg(long, value_name = "FILE.png")]
    out: PathBuf,
    /// Rows, at most; one per class if there are labels
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    rows: u32,
    /// Images in a row
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    columns: u32,
}

/// A data set, and what is done to its pictures.
#[derive(Debug, Args)]
struct SourceArgs {
    /// Folder (pictures, IDX files or CIFAR-10), .zip, .npy, .npz or IDX file, CIFAR-10's .tar.gz, or a built-in set
    #[arg(value_name = "PATH|builtin:NAME")]
    path: PathBuf,
    /// The held-out images of a set that has some
    #[arg(long)]
    test: bool,
    #[command(flatten)]
    images: ImageArgs,
}

/// Flags that make images of one size and mode out of pictures.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct ImageArgs {
    /// Bring pictures of another size to --size: whole with a border, cropped to the middle, or distorted [default: refuse them]
    #[arg(long, requires = "size")]
    pub resize: Option<ResizeFlag>,
    /// Height and width of the images [default: the size that all pictures have]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(data::policy::MAX_SIZE)))]
    pub size: Option<u32>,
    /// Colour behind transparent pixels and of the border of --resize fit [default: ffffff, white]
    #[arg(long, value_name = "RRGGBB")]
    pub background: Option<Background>,
    /// Channels: auto is grey if no picture has a coloured pixel [default: auto]
    #[arg(long)]
    pub colour: Option<ColourFlag>,
    /// Where labels come from: what the data carries, nowhere, the sub-folders, or dataset.json [default: auto]
    #[arg(long)]
    pub labels: Option<LabelsFlag>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ResizeFlag {
    Fit,
    Crop,
    Stretch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColourFlag {
    Auto,
    Grey,
    Rgb,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LabelsFlag {
    Auto,
    None,
    Folders,
    Json,
}

impl ImageArgs {
    /// As a policy; flags that are not given leave its default.
    pub fn policy(&self) -> ImagePolicy {
        let resize = self.resize.map(|how| match how {
            ResizeFlag::Fit => Resize::Fit,
            ResizeFlag::Crop => Resize::Crop,
            ResizeFlag::Stretch => Resize::Stretch,
        });
        let colour = self.colour.map(|colour| match colour {
            ColourFlag::Auto => Colour::Auto,
            ColourFlag::Grey => Colour::Grey,
            ColourFlag::Rgb => Colour::Rgb,
        });
        let labels = self.labels.map(|labels| match labels {
            LabelsFlag::Auto => Labels::Auto,
            LabelsFlag::None => Labels::None,
            LabelsFlag::Folders => Labels::Folders,
            LabelsFlag::Json => Labels::Json,
        });
        ImagePolicy {
            resize,
            size: self.size,
            background: self.background.unwrap_or_default(),
            colour: colour.unwrap_or_default(),
            labels: labels.unwrap_or_default(),
        }
    }
}

/// Runs the sub-verb.
pub fn run(args: &DataArgs) -> Result<()> {
    match &args.what {
        DataCommand::Check(args) => check(args),
        DataCommand::Convert(args) => convert(args),
        DataCommand::Sheet(args) => sheet(args),
    }
}

impl SourceArgs {
    fn spec(&self) -> Result<&str> {
        self.path.to_str().ok_or_else(|| Error::input(format!("the path {} is not UTF-8: rename it", self.path.display())))
    }

    fn options(&self) -> LoadOptions {
        LoadOptions { split: if self.test { Split::Test } else { Split::Train }, ..LoadOptions::default() }
    }
}

fn check(args: &CheckArgs) -> Result<()> {
    let source = &args.source;
    let report = with_progress(|progress| data::check(source.spec()?, &source.options(), &source.images.policy(), progress))?;
    super::print(&report.to_string())?;
    let stops = report.stops();
    if stops.is_empty() {
        return super::print("Nothing here would stop training");
    }
    Err(Error::input(format!("this would stop training on {}: {}", source.path.display(), stops.join("; "))))
}

fn convert(args: &ConvertArgs) -> Result<()> {
    let source = &args.source;
    check_extension(&args.out, "zip")?;
    let (spec, options, policy) = (source.spec()?, source.options(), source.images.policy());
    let mut failed = None;
    let mut converted = None;
    let written = with_progress(|progress| {
        disk::replace_with(&args.out, |file| {
            let mut out = BufWriter::new(file);
            match data::convert(spec, &options, &policy, &mut out, progress) {
                Ok(done) => converted = Some(done),
                Err(error) => {
                    failed = Some(error);
                    return Err(std::io::Error::other("stopped"));
                }
            }
            std::io::Write::flush(&mut out)
        })
    });
    // What ended the conversion says more than that the file was not written.
    if let Some(error) = failed {
        return Err(error);
    }
    written?;
    let done = converted.ok_or_else(|| Error::internal("a conversion without a result"))?;
    let labels = if done.classes == 0 { "no labels".to_string() } else { format!("{} classes", done.classes) };
    super::print(&format!(
        "{} images of {}x{} ({} copied as they were), {labels}, are in {}",
        done.images,
        done.size.0,
        done.size.1,
        done.untouched,
        args.out.display()
    ))
}

fn sheet(args: &SheetArgs) -> Result<()> {
    let source = &args.source;
    check_extension(&args.out, "png")?;
    let set = with_progress(|progress| data::load_with(source.spec()?, &source.options(), &source.images.policy(), progress))?;
    let sheet = set.labelled_sheet(args.rows as usize, args.columns as usize)?;
    let mut png = std::io::Cursor::new(Vec::new());
    sheet.write_to(&mut png, image::ImageFormat::Png).map_err(|error| Error::internal(format!("a sheet cannot be packed: {error}")))?;
    disk::replace(&args.out, png.get_ref())?;
    super::print(&format!("{}\nIts sheet is in {}", set.describe(), args.out.display()))
}

fn check_extension(out: &Path, wanted: &str) -> Result<()> {
    if out.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(wanted)) {
        return Ok(());
    }
    Err(Error::input(format!("--out {}: expected a file name that ends in .{wanted}", out.display())))
}

/// Runs `work` with a bar on standard error, if that is a terminal.
pub(super) fn with_progress<T>(work: impl FnOnce(data::Progress) -> Result<T>) -> Result<T> {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} images, {eta} left") {
        bar.set_style(style);
    }
    let done = work(&|done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    done
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::{Command, Ganymede};

    fn parsed(line: &str) -> Result<DataArgs, clap::Error> {
        Ganymede::try_parse_from(line.split_whitespace()).map(|parsed| match parsed.command {
            Command::Data(args) => args,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn every_flag_reaches_the_policy() {
        let line = "ganymede data convert in --out o.zip --resize crop --size 64 --background 102030 --colour grey --labels folders --test";
        let DataCommand::Convert(args) = parsed(line).unwrap().what else { panic!() };
        let expected = ImagePolicy {
            resize: Some(Resize::Crop),
            size: Some(64),
            background: Background([0x10, 0x20, 0x30]),
            colour: Colour::Grey,
            labels: Labels::Folders,
        };
        assert_eq!(args.source.images.policy(), expected);
        assert_eq!(args.source.options().split, Split::Test);
        let DataCommand::Check(args) = parsed("ganymede data check in").unwrap().what else { panic!() };
        assert_eq!((args.source.images.policy(), args.source.options()), (ImagePolicy::default(), LoadOptions::default()));
        for bad in ["--resize crop", "--size 0", "--size 4097", "--background white", "--labels maybe"] {
            assert!(parsed(&format!("ganymede data check in {bad}")).is_err(), "{bad}");
        }
    }
}
