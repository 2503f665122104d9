//! When two names are the same.
//!
//! **Invariant**: the key of a name never changes. It follows from case folding and compatibility
//! decomposition, which Unicode keeps as they are for every character that is assigned; so a log of any
//! age has the same keys after an update of Unicode's tables.

use icu_casemap::CaseMapper;
use icu_normalizer::DecomposingNormalizer;

/// What two usernames, or two e-mail addresses, have in common when only one of them can be taken:
/// a compatibility caseless match (The Unicode Standard, section 3.13, D146). `Ada`, `ada` and `ＡＤＡ`
/// are one name, as are `José` in one character per letter or in two, and `νικος` and `νικοσ`.
#[must_use]
pub fn name_key(text: &str) -> String {
    let (cases, compatible) = (CaseMapper::new(), DecomposingNormalizer::new_nfkd());
    let canonical = DecomposingNormalizer::new_nfd();
    let folded = cases.fold_string(&canonical.normalize(text)).into_owned();
    let folded = cases.fold_string(&compatible.normalize(&folded)).into_owned();
    compatible.normalize(&folded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_in_case_form_or_width_are_one() {
        let same = [
            ("Ada", "aDA"),
            ("İda", "i̇da"),
            ("jos\u{e9}", "jose\u{301}"),
            ("νικος", "ΝΙΚΟΣ"),
            ("νικος", "νικοσ"),
            ("Straße", "STRASSE"),
            ("ａｄａ", "ada"),
            ("oﬃce", "office"),
            ("\u{1fc3}a", "ηιa"),
        ];
        for (one, other) in same {
            assert!(one != other && name_key(one) == name_key(other), "{one} and {other}");
        }
        for (one, other) in [("ada", "adа"), ("resume", "résumé"), ("ada1", "adal")] {
            assert_ne!(name_key(one), name_key(other), "{one} and {other}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_key_is_its_own_key(text: String) {
            let key = name_key(&text);
            proptest::prop_assert_eq!(name_key(&key), key);
        }
    }
}
