//! Text on pictures, in letters of 8 x 8 pixels.

use font8x8::UnicodeFonts;

/// Height and width of a letter in pixels.
pub const SIDE: usize = 8;

/// The pixels of a letter, row by row; of what the font does not have, a box.
fn glyph(letter: char) -> [u8; SIDE] {
    let fonts: [&dyn UnicodeFonts; 4] = [&font8x8::BASIC_FONTS, &font8x8::LATIN_FONTS, &font8x8::GREEK_FONTS, &font8x8::HIRAGANA_FONTS];
    fonts.iter().find_map(|font| font.get(letter)).unwrap_or([0x7e, 0x42, 0x42, 0x42, 0x42, 0x42, 0x7e, 0])
}

/// Calls `dot(x, y)` for every inked pixel of `text`, from its top left, each pixel `scale` wide and high.
pub fn draw(text: &str, scale: usize, mut dot: impl FnMut(usize, usize)) {
    for (index, letter) in text.chars().enumerate() {
        for (y, row) in glyph(letter).into_iter().enumerate() {
            for x in (0..SIDE).filter(|x| row >> x & 1 == 1) {
                for (down, right) in (0..scale).flat_map(|down| (0..scale).map(move |right| (down, right))) {
                    dot((index * SIDE + x) * scale + right, y * scale + down);
                }
            }
        }
    }
}

/// `text` in at most `most` letters, two dots in place of what is cut.
pub fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most { text.to_string() } else { text.chars().take(most.saturating_sub(2)).chain("..".chars()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(text: &str, scale: usize) -> Vec<String> {
        let width = text.chars().count() * SIDE * scale;
        let mut rows = vec![vec!['.'; width]; SIDE * scale];
        draw(text, scale, |x, y| rows[y][x] = '#');
        rows.into_iter().map(|row| row.into_iter().collect()).collect()
    }

    #[test]
    fn letters_are_upright_and_in_order() {
        let rows = drawn("L.", 1);
        assert_eq!(rows[0], "####............");
        assert_eq!(rows[6], "#######...##....");
        let large = drawn("L.", 2);
        for (y, row) in rows.iter().enumerate() {
            let doubled: String = row.chars().flat_map(|c| [c, c]).collect();
            assert_eq!((&large[2 * y], &large[2 * y + 1]), (&doubled, &doubled));
        }
    }

    #[test]
    fn every_letter_shows_something() {
        for letter in ('!'..='~').chain("äéßñÆλあ".chars()).chain(['漢', '🙂']) {
            assert!(drawn(&letter.to_string(), 1).concat().contains('#'), "{letter}");
        }
        assert_eq!(drawn("漢", 1), drawn("🙂", 1));
        assert_ne!(drawn("a", 1), drawn("b", 1));
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(shortened("cat", 3), "cat");
        assert_eq!(shortened("caterpillar", 6), "cate..");
        assert_eq!(shortened("äöüäöü", 5), "äöü..");
    }
}
