//! Sketches of texts: short summaries that distinguish an altered copy of a text from a different
//! text, without storing either.
//!
//! The Cloud can echo a user's text altered: with masked numbers, trimmed, or escaped for HTML. A
//! sketch stores hashes of the words and numbers, or a sample of them if there are many. It is a
//! bottom-k sketch: the sample has the smallest hashes, so that two texts sample the same words.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::ids::Invalid;

/// The maximum number of words in a sample.
const MAX_WORDS: usize = 16;

/// The maximum number of numbers in a sample.
const MAX_NUMBERS: usize = 8;

/// The length of a hash in bytes. With 16 words in each of two texts, one in 65,000 pairs of texts
/// shares a hash by chance.
const HASH_BYTES: usize = 3;

/// The maximum number of times that a text is unescaped: once for its author, once for the Cloud,
/// and once more. The limit is low, since a hostile text can cause that many passes.
const MAX_UNESCAPES: u32 = 3;

/// The characters that replace masked text.
const MASKS: &str = "*•●█＊∗#";

/// The minimum number of mask characters that can stand for a number.
const MIN_MASKED: usize = 3;

/// A summary of a text's words, numbers and masked characters.
///
/// ```
/// use liveperson_bridge::types::sketch::Sketch;
///
/// let sent = Sketch::of("my card is 4111 1111 1111 1111");
///
/// assert!(Sketch::of("my card is **** **** **** 1111").may_be_altered_from(&sent));
/// assert!(!Sketch::of("where is my parcel?").may_be_altered_from(&sent));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sketch {
    words: Sample<MAX_WORDS>,
    numbers: Sample<MAX_NUMBERS>,
    /// The number of mask characters.
    masked: usize,
    /// The number of letters, digits and mask characters.
    length: usize,
}

/// The smallest hashes of a set, at most `K`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Sample<const K: usize>(BTreeSet<[u8; HASH_BYTES]>);

/// The numbers of words in a copy, in its original and in both, in the range that both samples
/// cover.
struct Overlap {
    copy: usize,
    original: usize,
    shared: usize,
}

/// A class of characters. Neighbouring characters of one class form a word.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Letter,
    Digit,
    Mask,
    Symbol,
    Separator,
}

impl Sketch {
    /// Computes the sketch of a text. Letter case, white space and punctuation do not count.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let text = canonical(text).to_lowercase();
        let mut sketch = Self::default();
        let mut rest = text.as_str();
        while let Some(first) = rest.chars().next() {
            let kind = Kind::of(first);
            let is_alone = kind == Kind::Symbol;
            let end = rest
                .char_indices()
                .find(|(start, c)| *start > 0 && (is_alone || Kind::of(*c) != kind))
                .map_or(rest.len(), |(start, _)| start);
            let (run, after) = rest.split_at(end);
            if matches!(kind, Kind::Letter | Kind::Digit | Kind::Mask) {
                sketch.length += run.chars().count();
            }
            match kind {
                Kind::Mask => sketch.masked += run.chars().count(),
                // `XXXX` is a mask as well.
                Kind::Letter if run.len() > 1 && run.chars().all(|c| c == 'x') => {
                    sketch.masked += run.len();
                }
                Kind::Letter | Kind::Symbol => sketch.words.add(run),
                Kind::Digit => sketch.numbers.add(run),
                Kind::Separator => {}
            }
            rest = after;
        }
        sketch
    }

    /// True if this can be an altered copy of the original.
    ///
    /// If characters are masked, all remaining words must be words of the original. If nothing
    /// remains, the original must contain numbers, the usual target of masking, or the mask must be
    /// long enough for the whole text. If nothing is masked, words and numbers must be the same,
    /// and there must be some.
    #[must_use]
    pub fn may_be_altered_from(&self, original: &Self) -> bool {
        let words = self.words.overlap(&original.words);
        let numbers = self.numbers.overlap(&original.numbers);
        if self.masked > original.masked {
            let hides_number = numbers.original > 0 && self.masked >= MIN_MASKED;
            let is_plausible =
                words.copy + numbers.copy > 0 || hides_number || self.masked >= original.length;
            return is_plausible && words.shared == words.copy;
        }
        words.shared + numbers.shared > 0 && words.is_equal() && numbers.is_equal()
    }
}

impl Overlap {
    fn is_equal(&self) -> bool {
        self.shared == self.copy && self.shared == self.original
    }
}

impl Kind {
    fn of(c: char) -> Self {
        if c.is_alphabetic() {
            Self::Letter
        } else if c.is_numeric() {
            Self::Digit
        } else if MASKS.contains(c) {
            Self::Mask
        } else if c.is_ascii() || c.is_whitespace() || is_joiner_or_punctuation(c) {
            Self::Separator
        } else {
            Self::Symbol
        }
    }
}

/// True for punctuation beyond ASCII, and for characters that join or vary their neighbours.
fn is_joiner_or_punctuation(c: char) -> bool {
    matches!(c, '\u{80}'..='\u{BF}' | '\u{300}'..='\u{36F}' | '\u{2000}'..='\u{206F}'
        | '\u{3000}'..='\u{303F}' | '\u{FE00}'..='\u{FE0F}' | '\u{FF00}'..='\u{FF65}'
        | '\u{1F3FB}'..='\u{1F3FF}')
}

impl<const K: usize> Sample<K> {
    fn add(&mut self, word: &str) {
        self.0.insert(hash(word));
        if self.0.len() > K {
            self.0.pop_last();
        }
    }

    /// Returns the last hash that the sample covers. A full sample says nothing about hashes beyond
    /// its last one.
    fn last_covered(&self) -> [u8; HASH_BYTES] {
        let last = self.0.last().filter(|_| self.0.len() == K);
        last.copied().unwrap_or([u8::MAX; HASH_BYTES])
    }

    fn overlap(&self, original: &Self) -> Overlap {
        let end = self.last_covered().min(original.last_covered());
        let within = |sample: &Self| sample.0.range(..=end).count();
        Overlap {
            copy: within(self),
            original: within(original),
            shared: self
                .0
                .range(..=end)
                .filter(|it| original.0.contains(*it))
                .count(),
        }
    }

    fn to_text(&self) -> String {
        let bytes: Vec<_> = self.0.iter().flatten().copied().collect();
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (hashes, rest) = bytes.as_chunks::<HASH_BYTES>();
        let fits = rest.is_empty() && hashes.len() <= K;
        fits.then(|| Self(hashes.iter().copied().collect()))
    }
}

/// Computes the hash of a word: FNV-1a with a final mix. It is stable between versions, since
/// replicas compare each other's sketches.
fn hash(word: &str) -> [u8; HASH_BYTES] {
    let fnv = word.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let mixed = (fnv ^ (fnv >> 16)).wrapping_mul(0x85eb_ca6b);
    let [a, b, c, _] = (mixed ^ (mixed >> 13)).to_be_bytes();
    [a, b, c]
}

/// The form in which a sketch is stored: both samples, the number of mask characters and the
/// length, separated by dots.
impl std::fmt::Display for Sketch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (words, numbers) = (self.words.to_text(), self.numbers.to_text());
        write!(f, "{words}.{numbers}.{}.{}", self.masked, self.length)
    }
}

impl FromStr for Sketch {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let mut parts = text.split('.');
        let mut parse = || {
            let (words, numbers) = (parts.next()?, parts.next()?);
            let (masked, length) = (parts.next()?, parts.next()?);
            Some(Self {
                words: Sample::parse(words)?,
                numbers: Sample::parse(numbers)?,
                masked: masked.parse().ok()?,
                length: length.parse().ok()?,
            })
        };
        parse().ok_or(Invalid {
            expected: "a sketch of a text",
        })
    }
}

/// Undoes the changes that the Cloud may make to a text. Removes white space at its ends, replaces
/// white space within by one space, and decodes HTML entities, even if they were encoded twice.
pub(super) fn canonical(text: &str) -> Cow<'_, str> {
    let mut decoded = Cow::Borrowed(text);
    for _ in 0..MAX_UNESCAPES {
        if !decoded.contains('&') {
            break;
        }
        let unescaped = html_escape::decode_html_entities(&decoded).into_owned();
        if unescaped == decoded {
            break;
        }
        decoded = Cow::Owned(unescaped);
    }
    let is_plain = |text: &str| {
        let mut after_space = true;
        let plain = text.chars().all(|c| {
            let fits = !c.is_whitespace() || c == ' ' && !after_space;
            after_space = c.is_whitespace();
            fits
        });
        plain && (text.is_empty() || !after_space)
    };
    if is_plain(&decoded) {
        return decoded;
    }
    let words: Vec<_> = decoded.split_whitespace().collect();
    Cow::Owned(words.join(" "))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn may_be(copy: &str, original: &str) -> bool {
        Sketch::of(copy).may_be_altered_from(&Sketch::of(original))
    }

    #[test]
    fn altered_copies_are_recognised() {
        for (original, copy) in [
            (
                "my card is 4111 1111 1111 1111",
                "my card is **** **** **** 1111",
            ),
            (
                "my card is 4111 1111 1111 1111",
                "my card is XXXX XXXX XXXX XXXX",
            ),
            ("4111111111111111", "************1111"),
            ("card 4111111111111111 thx", "card ############1111 thx"),
            ("j.doe@example.com", "*****************"),
            ("4111 1111", "•••• ••••"),
            ("4111 1111 1111 1111", "****"),
            ("you bloody fool", "you ****** fool"),
            (
                "write to j.doe@example.com please",
                "write to ***************** please",
            ),
            ("call 555 1234", "call ***"),
            ("one two", " One  Two\r\n"),
            ("it's <b>", "it&#39;s &amp;lt;b&amp;gt;"),
            ("it's", "it’s!"),
            ("ที่นี่ 1234", "ที่นี่ ****"),
        ] {
            assert!(may_be(copy, original), "{original:?} as {copy:?}");
        }
    }

    #[test]
    fn different_texts_are_not_recognized_as_copies() {
        for (original, other) in [
            ("my card is 4111 1111 1111 1111", "where is my parcel?"),
            ("yes", "no"),
            ("1", "2"),
            ("text 17", "text 18"),
            ("I am here", "I am there"),
            ("yes please", "yes"),
            ("hello world", "*"),
            ("hello world", "*** ***"),
            ("4111 1111", "*"),
            ("hello", "?"),
            ("?", "!"),
            ("👍", "👎"),
            ("4111 1111 1111 1111", "hello"),
            ("hello", "hello 4111"),
            ("hello there", "4111"),
            ("the ** is for you", "the ** is not what it was"),
            ("my card is 4111", "my order is ***"),
        ] {
            assert!(!may_be(other, original), "{original:?} and {other:?}");
        }
    }

    #[test]
    fn canonical_texts_are_equal_where_only_space_and_escapes_differ() {
        for (text, canon) in [
            ("", ""),
            ("plain text", "plain text"),
            (" a\r\n\r\nb\t", "a b"),
            ("a &amp;amp;lt; b", "a < b"),
            ("&", "&"),
            ("&nosuch; &#x1F449;", "&nosuch; \u{1F449}"),
        ] {
            assert_eq!(canonical(text), canon, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_sketch_is_read_back_as_it_was_written(text in "(\\PC| |[a-z]{1,5}|[0-9*]{1,4}){0,60}") {
            let sketch = Sketch::of(&text);

            prop_assert_eq!(sketch.to_string().parse::<Sketch>().unwrap(), sketch);
        }

        #[test]
        fn a_text_with_masked_numbers_is_still_recognized(
            words in prop::collection::vec("[a-z]{2,9}|[0-9]{1,9}", 1..60),
        ) {
            let text = words.join(" ");
            let masked: String = text.chars().map(|c| if c.is_ascii_digit() { '*' } else { c }).collect();

            prop_assert!(may_be(&masked, &text));
        }

        #[test]
        fn escaping_and_trimming_change_no_canonical_text(text in "( |&|<|;|[a-z]{1,5}){0,20}") {
            let escaped = html_escape::encode_safe(&text);

            prop_assert_eq!(canonical(&escaped), canonical(&text));
            prop_assert_eq!(canonical(text.trim()), canonical(&text));
        }
    }
}
