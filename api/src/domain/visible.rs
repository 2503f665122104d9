//! What can be seen of a text.

use icu_properties::CodePointSetData;
use icu_properties::props::{
    DefaultIgnorableCodePoint, EnumeratedProperty, GeneralCategory, GeneralCategoryGroup,
};

/// A space that is called a pattern.
const BRAILLE_PATTERN_BLANK: char = '\u{2800}';

/// Whether a reader sees something where `character` is. White space, controls, marks of direction,
/// joiners and fillers are not seen, and of what is not assigned nobody knows.
#[must_use]
pub fn is_visible(character: char) -> bool {
    let unseen = GeneralCategoryGroup::Separator.union(GeneralCategoryGroup::Other);
    !unseen.contains(GeneralCategory::for_char(character))
        && !CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(character)
        && character != BRAILLE_PATTERN_BLANK
}

/// Whether `character` is drawn onto the one before it.
#[must_use]
pub fn is_mark(character: char) -> bool {
    GeneralCategoryGroup::Mark.contains(GeneralCategory::for_char(character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_and_pictures_are_seen_and_tricks_are_not() {
        for seen in ['a', '1', '-', 'é', '字', '\u{301}', '🐦'] {
            assert!(is_visible(seen), "{seen:?}");
        }
        let unseen = [
            ' ',
            '\n',
            '\0',
            '\u{a0}',
            '\u{ad}',
            '\u{200b}',
            '\u{200d}',
            '\u{202e}',
            '\u{2066}',
            '\u{2028}',
            '\u{2060}',
            '\u{2800}',
            '\u{3000}',
            '\u{3164}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{e000}',
            '\u{e0041}',
            '\u{ffff}',
            '\u{378}',
        ];
        for unseen in unseen {
            assert!(!is_visible(unseen), "{unseen:?}");
        }
    }
}
