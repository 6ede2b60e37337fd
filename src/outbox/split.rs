//! Splitting of a text into pieces that the Cloud accepts.

use std::sync::LazyLock;

use icu_segmenter::options::{SentenceBreakInvariantOptions, WordBreakInvariantOptions};
use icu_segmenter::{
    GraphemeClusterSegmenter, GraphemeClusterSegmenterBorrowed, SentenceSegmenter,
    SentenceSegmenterBorrowed, WordSegmenter, WordSegmenterBorrowed,
};

use crate::types::message::{Pieces, Text};

/// 128: the bytes after the end of a piece that the search for words and sentences may read. They
/// show if the last word goes on. The limit bounds the work.
const LOOKAHEAD: usize = 128;

/// Punctuation after which Chinese and Japanese, which have no spaces, allow a line break.
const CLOSING: &str = "、。，．！？；：）」』】》〉";

static CLUSTERS: GraphemeClusterSegmenterBorrowed<'static> = GraphemeClusterSegmenter::new();

static SENTENCES: LazyLock<SentenceSegmenterBorrowed<'static>> =
    LazyLock::new(|| SentenceSegmenter::new(SentenceBreakInvariantOptions::default()));

/// The word segmenter, which uses a dictionary for scripts without spaces. The models for Thai and
/// similar scripts are a little better, but ten times slower.
static WORDS: LazyLock<WordSegmenterBorrowed<'static>> =
    LazyLock::new(|| WordSegmenter::new_dictionary(WordBreakInvariantOptions::default()));

/// Counts the characters of a text as JSON, without the quotes. The Cloud counts UTF-16 code units,
/// so a character beyond the Basic Multilingual Plane counts as two.
pub(super) fn json_chars(text: &str) -> usize {
    text.chars().map(json_chars_of).sum()
}

fn json_chars_of(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        c => c.len_utf16(),
    }
}

/// Splits a text into pieces of at most `budget` JSON characters each, in order.
///
/// A cut is between sentences if that leaves at least half a piece, else between words, else
/// between grapheme clusters (Unicode UAX 29). A cut is inside a cluster only if that cluster alone
/// exceeds the budget. White space at a cut stays with the piece before it. Joined, the pieces are
/// the text, except for white space that would fill a piece of its own. It is left out, since the
/// Cloud has no use for a blank message.
pub(super) fn split(text: &Text, budget: usize) -> Pieces {
    let mut remaining = text.as_str();
    let mut pieces = Vec::new();
    while !Text::is_blank(remaining) {
        let (piece, after) = take_piece(remaining, budget);
        pieces.push(piece.to_owned());
        remaining = after;
    }
    // A text is not blank, so there is at least one piece.
    Pieces::try_from(pieces).unwrap_or_else(|_| Pieces::one(text.clone().into()))
}

/// Splits the first piece off a text that is not blank.
fn take_piece(text: &str, budget: usize) -> (&str, &str) {
    let fitting = fitting_clusters(text, budget);
    let fits = match fitting.last() {
        Some(end) => *end,
        None => fitting_chars(text, budget),
    };
    let (head, tail) = text.split_at(fits);
    if tail.is_empty() {
        return (text, "");
    }
    if Text::is_blank(head) {
        return take_piece(text.trim_start_matches(Text::is_blank_char), budget);
    }
    // A cut has visible text before it, no white space after it, and whole clusters on both sides.
    let is_cut = |at: usize| {
        let (before, after) = text.split_at(at);
        fitting.binary_search(&at).is_ok()
            && !Text::is_blank(before)
            && !after.starts_with(char::is_whitespace)
    };
    // The text after the head decides where its last sentence and its last word end.
    let window = text.split_at(text.ceil_char_boundary(fits + LOOKAHEAD)).0;
    let sentence_end = last_sentence_end(window, fits, is_cut).filter(|end| 2 * end >= fits);
    let end = sentence_end.or_else(|| last_word_end(window, fits, is_cut));
    text.split_at(end.unwrap_or(fits))
}

/// Returns the ends, in bytes, of the grapheme clusters at the start of a text that fit.
fn fitting_clusters(text: &str, budget: usize) -> Vec<usize> {
    let (mut used, mut start) = (0, 0);
    let ends = CLUSTERS.segment_str(text).skip(1);
    let fitting = ends.take_while(|end| {
        used += json_chars(text.get(start..*end).unwrap_or_default());
        start = *end;
        used <= budget
    });
    fitting.collect()
}

/// Returns the length in bytes of the characters at the start of a text that fit, at least one. A
/// budget too small for one character could never be met.
fn fitting_chars(text: &str, budget: usize) -> usize {
    let mut used = 0;
    let mut fits = 0;
    for (start, c) in text.char_indices() {
        used += json_chars_of(c);
        if used > budget && start > 0 {
            break;
        }
        fits = start + c.len_utf8();
    }
    fits
}

/// Returns the last position up to `limit` at which a sentence ends, including the white space
/// after it.
fn last_sentence_end(text: &str, limit: usize, is_cut: impl Fn(usize) -> bool) -> Option<usize> {
    let ends = SENTENCES.segment_str(text);
    let ends = ends.take_while(|end| *end <= limit);
    ends.filter(|end| is_cut(*end)).last()
}

/// Returns the last position up to `limit` at which a word ends, including the punctuation and the
/// white space after it.
fn last_word_end(text: &str, limit: usize, is_cut: impl Fn(usize) -> bool) -> Option<usize> {
    let mut last = None;
    // The end of the previous segment, and true if that segment is a word.
    let (mut start, mut follows_word) = (0, false);
    for (end, kind) in WORDS.segment_str(text).iter_with_word_type() {
        if start > limit {
            break;
        }
        let is_word = kind.is_word_like();
        // UAX 29 attaches a format character to the space before it. But it belongs to the word
        // after it, for example if it starts a run in the other direction.
        let before = text.split_at(start).0.trim_end_matches(is_format);
        let preceding = before.chars().next_back();
        if preceding.is_some_and(|c| c.is_whitespace() || CLOSING.contains(c)) {
            last = Some(before.len()).filter(|at| is_cut(*at)).or(last);
        } else if follows_word && is_word && is_cut(start) {
            // Adjacent words with nothing between them are in a script without spaces.
            last = Some(start);
        }
        (start, follows_word) = (end, is_word);
    }
    last
}

/// True for invisible characters that control the display of the text beside them.
fn is_format(c: char) -> bool {
    matches!(c, '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
}

#[cfg(test)]
mod tests;
