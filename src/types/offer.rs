//! The choices that a user is offered, and the one that a text names.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::event::data::{Choice, Message};
use super::message::{DescribedSequence, Sequence, Text};

/// 64 KiB: the maximum size of an offer as JSON. The Cloud allows 24 quick replies, which take
/// about 5 KiB.
const MAX_BYTES: usize = 64 * 1024;

/// The choices in the latest message that a user got in a dialog. Its JSON form is stored.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// The dialog of the message.
    pub dialog_id: String,
    /// The sequence of the message in its dialog.
    pub sequence: Sequence,
    /// The choices, in the order of their numbers.
    pub choices: Vec<Choice>,
}

/// A choice that the user's text names.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"sequence": 3, "number": 2, "title": "Pear"}))]
pub struct NamedChoice {
    /// The number of the agent's message in its dialog, from 0.
    #[schema(value_type = DescribedSequence)]
    pub sequence: Sequence,
    /// The number of the choice in that message, from 1.
    #[schema(minimum = 1)]
    pub number: u32,
    /// The title of the choice.
    pub title: String,
}

impl Offer {
    /// Returns the offer of a message; `None` if the message has no choices, or if they take more
    /// than 64 KiB as JSON.
    #[must_use]
    pub fn of(message: &Message) -> Option<Self> {
        if message.choices.is_empty() {
            return None;
        }
        let offer = Self {
            dialog_id: message.dialog_id.clone()?,
            sequence: message.sequence?,
            choices: message.choices.clone(),
        };
        (offer.to_json().len() <= MAX_BYTES).then_some(offer)
    }

    /// Renders the JSON form for storage.
    #[must_use]
    pub fn to_json(&self) -> String {
        json(self)
    }

    /// Finds the choice that a text names by its title or by its number.
    ///
    /// White space around the text and the case of letters do not count. One `.` or `)` may follow
    /// a number. A title takes precedence over a number, and the first of two equal titles counts.
    ///
    /// ```
    /// use liveperson_bridge::types::offer::Offer;
    ///
    /// let stored = r#"{"dialog_id": "d", "sequence": 3, "choices": [
    ///     {"title": "Apple", "text": "apples"}, {"title": "Pear", "text": "pears"}]}"#;
    /// let offer: Offer = serde_json::from_str(stored).unwrap();
    ///
    /// let (named, choice) = offer.find(" pear ").unwrap();
    /// assert_eq!((named.number, &*choice.text), (2, "pears"));
    /// assert_eq!(offer.find("2.").unwrap().0, named);
    /// assert!(offer.find("plum").is_none());
    /// ```
    #[must_use]
    pub fn find(&self, text: &str) -> Option<(NamedChoice, &Choice)> {
        let text = text.trim_matches(Text::is_blank_char);
        let title = text.to_lowercase();
        let numbered = || (1..).zip(&self.choices);
        let has_title = |choice: &Choice| {
            let own = choice.title.trim_matches(Text::is_blank_char);
            own.to_lowercase() == title
        };
        let by_title = numbered().find(|(_, choice)| has_title(choice));
        let by_number = || {
            let wanted = number(text)?;
            numbered().find(|(number, _)| *number == wanted)
        };
        let (number, choice) = by_title.or_else(by_number)?;
        let named = NamedChoice {
            sequence: self.sequence,
            number,
            title: choice.title.clone(),
        };
        Some((named, choice))
    }
}

#[expect(
    clippy::expect_used,
    reason = "all keys are strings, and all values of metadata are JSON"
)]
fn json(offer: &Offer) -> String {
    serde_json::to_string(offer).expect("an offer is JSON")
}

/// Reads the number of a choice, as `text` of an event shows it. One `.` or `)` may follow.
fn number(text: &str) -> Option<u32> {
    let digits = text.strip_suffix(['.', ')']).unwrap_or(text);
    // `parse` would accept a plus, and `01` is more likely a code than the first choice.
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    digits.parse().ok().filter(|_| is_plain)
}

impl fmt::Debug for Offer {
    /// Leaves out the choices.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer")
            .field("dialog_id", &self.dialog_id)
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for NamedChoice {
    /// Leaves out the title.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamedChoice")
            .field("sequence", &self.sequence)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::types::event::data::{Role, Sender};

    fn message(titles: &[&str]) -> Message {
        let choices = titles.iter().map(|title| Choice {
            title: (*title).to_owned(),
            text: format!("take {title}"),
            metadata: None,
        });
        Message {
            sequence: Some(3),
            dialog_id: Some("d".to_owned()),
            sender: Sender {
                id: None,
                role: Role::Agent,
            },
            text: String::new(),
            file: None,
            rich: None,
            choices: choices.collect(),
            metadata: None,
        }
    }

    /// Returns the number of the choice that a text names among choices with these titles.
    fn named(titles: &[&str], text: &str) -> Option<u32> {
        let offer = Offer::of(&message(titles)).unwrap();
        let (named, choice) = offer.find(text)?;
        assert_eq!(named.sequence, 3);
        assert_eq!(named.title, choice.title);
        Some(named.number)
    }

    #[test]
    fn a_text_names_a_choice_by_its_number() {
        let titles = ["Apple", "Pear", "Plum"];
        for (text, number) in [
            ("1", Some(1)),
            ("2", Some(2)),
            (" 3\n", Some(3)),
            ("\u{200b}2\u{feff}", Some(2)),
            ("2.", Some(2)),
            ("2)", Some(2)),
            ("0", None),
            ("4", None),
            ("-1", None),
            ("+1", None),
            ("01", None),
            ("1..", None),
            ("1 .", None),
            ("(1)", None),
            ("#1", None),
            (".", None),
            ("1 and 2", None),
            ("number 1", None),
            ("\u{0661}", None),
            ("4294967297", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(named(&titles, text), number, "{text:?}");
        }
    }

    #[test]
    fn a_text_names_a_choice_by_its_title_in_any_case() {
        let titles = ["Track my parcel", "Größe ändern", "&"];
        for (text, number) in [
            ("Track my parcel", Some(1)),
            ("  TRACK MY PARCEL\r\n", Some(1)),
            ("grÖSSE Ändern", None),
            ("GRÖßE ÄNDERN", Some(2)),
            ("&", Some(3)),
            ("Track", None),
            ("Track my parcel!", None),
            ("take Track my parcel", None),
        ] {
            assert_eq!(named(&titles, text), number, "{text:?}");
        }
    }

    #[test]
    fn a_title_takes_precedence_over_a_number() {
        let stars = ["5", "4", "3", "2", "1"];

        assert_eq!(named(&stars, "5"), Some(1));
        assert_eq!(named(&stars, "1"), Some(5));
        // Not a title, so it is a number.
        assert_eq!(named(&stars, "5."), Some(5));
    }

    #[test]
    fn the_first_of_two_equal_titles_counts() {
        assert_eq!(named(&["More", "Buy", "more", "Buy"], "BUY"), Some(2));
        assert_eq!(named(&["More", "Buy", "more", "Buy"], "More"), Some(1));
    }

    #[test]
    fn a_message_without_choices_or_place_offers_nothing() {
        assert!(Offer::of(&message(&[])).is_none());
        for incomplete in [
            Message {
                sequence: None,
                ..message(&["Apple"])
            },
            Message {
                dialog_id: None,
                ..message(&["Apple"])
            },
        ] {
            assert!(Offer::of(&incomplete).is_none());
        }
    }

    #[test]
    fn choices_that_take_more_than_64_kib_are_not_offered() {
        let largest = MAX_BYTES - Offer::of(&message(&["", ""])).unwrap().to_json().len();
        let title = |bytes| "x".repeat(bytes);

        // Each title is also part of the choice's text.
        for (bytes, is_offered) in [(largest / 2, true), (largest / 2 + 1, false)] {
            let offer = Offer::of(&message(&[&title(bytes), ""]));
            assert_eq!(offer.is_some(), is_offered, "{bytes}");
        }
    }

    #[test]
    fn a_stored_offer_is_read_back_unchanged() {
        let metadata = json!([{"type": "ExternalId", "n": 1}]);
        let mut offer = Offer::of(&message(&["Apple\u{0}\u{2028}", "Pear"])).unwrap();
        offer.choices[0].metadata = serde_json::from_value(metadata).unwrap();

        let stored = offer.to_json();

        assert_eq!(serde_json::from_str::<Offer>(&stored).unwrap(), offer);
    }

    #[test]
    fn debugging_shows_neither_titles_nor_texts() {
        let offer = Offer::of(&message(&["my card is 4111"])).unwrap();

        let shown = format!("{offer:?} {:?}", offer.find("1").unwrap());

        assert!(shown.contains("number: 1"), "{shown}");
        assert!(!shown.contains("4111"), "{shown}");
    }
}
