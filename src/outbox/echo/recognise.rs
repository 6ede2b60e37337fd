//! Recognises a message of unknown outcome among the user's messages that the Cloud tells back.
//!
//! The Cloud gives a publish no id of the sender's, so an echo is known by where it is, when it
//! came and what it says. One that says exactly the same is the message. The Cloud can alter what
//! it tells back, though, for instance mask a card number, and its clock can be behind. So an echo
//! that only may be the message counts as well, but later: once an exact one would have come, and
//! right before the message would be sent again. At most one message of a user is on its way at a
//! time, since the others wait in the user's lane, so what would have to be ruled out is a message
//! that another device of the same person wrote at that moment, and one that another replica had
//! sent at once just before.

use chrono::{DateTime, TimeDelta, Utc};

use crate::store::{Echo, Flight};
use crate::types::message::Sequence;
use crate::types::sketch::Sketch;

/// 5 s: the usual most by which the Cloud's clock is behind ours. What it tells of an earlier time
/// may be an older message that says the same.
const USUAL_SKEW: TimeDelta = TimeDelta::seconds(5);

/// An echo that was found for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::outbox) struct Sighting {
    /// The number that the Cloud gave the message.
    pub(in crate::outbox) sequence: Sequence,
    /// True if it says exactly the same, at a time that fits.
    pub(in crate::outbox) is_certain: bool,
}

/// Finds the echo of a try among those that came after it began, each with the time when it came.
///
/// `text` is the text that was sent, none for a file, whose echo names the same path or is not its
/// own. `others` are numbers of messages that are known to be others.
pub(super) fn recognise(
    flight: &Flight,
    text: Option<&str>,
    echoes: &[(Echo, DateTime<Utc>)],
    others: &[Sequence],
) -> Option<Sighting> {
    let open = || {
        let open = echoes.iter();
        open.filter(|(echo, _)| !others.contains(&echo.sequence))
    };
    let says_the_same = |echo: &Echo| echo.digest == flight.digest;
    let is_in_time = |echo: &Echo| {
        let sent_at = echo.sent_at;
        sent_at.is_none_or(|at| at >= flight.begun_at - USUAL_SKEW)
    };
    let certain = open().find(|(echo, _)| says_the_same(echo) && is_in_time(echo));
    if let Some((echo, _)) = certain {
        return Some(Sighting {
            sequence: echo.sequence,
            is_certain: true,
        });
    }
    let sent = text.map(Sketch::of);
    let is_altered = |echo: &Echo| {
        let sketches = echo.sketch.as_ref().zip(sent.as_ref());
        sketches.is_some_and(|(told, sent)| told.may_be_altered_from(sent))
    };
    // An echo that came before the try is of an older message, which may look alike.
    let late = || open().filter(|(_, heard_at)| *heard_at >= flight.begun_at);
    // Of several, the latest: the others are of older messages.
    let likely = late()
        .rfind(|(echo, _)| says_the_same(echo))
        .or_else(|| late().rfind(|(echo, _)| is_in_time(echo) && is_altered(echo)));
    likely.map(|(echo, _)| Sighting {
        sequence: echo.sequence,
        is_certain: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::message::Digest;

    const CARD: &str = "my card is 4111 1111 1111 1111";
    const MASKED: &str = "my card is **** **** **** 1111";

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    /// A try that began at 100 s.
    fn flight(digest: Digest) -> Flight {
        Flight {
            conversation_id: "c1".parse().unwrap(),
            dialog_id: "c1".to_owned(),
            digest: digest.into(),
            begun_at: at(100),
        }
    }

    fn echo(sequence: Sequence, text: &str, sent_at: i64) -> Echo {
        Echo {
            dialog_id: "c1".to_owned(),
            sequence,
            digest: Digest::of_text(text).into(),
            sketch: Some(Sketch::of(text)),
            sent_at: Some(at(sent_at)),
        }
    }

    /// The echoes, all of which came at 102 s.
    fn heard(echoes: &[Echo]) -> Vec<(Echo, DateTime<Utc>)> {
        let echoes = echoes.iter().cloned();
        echoes.map(|echo| (echo, at(102))).collect()
    }

    fn find(text: &str, echoes: &[Echo], others: &[Sequence]) -> Option<(Sequence, bool)> {
        let flight = flight(Digest::of_text(text));
        let found = recognise(&flight, Some(text), &heard(echoes), others);
        found.map(|it| (it.sequence, it.is_certain))
    }

    #[test]
    fn an_exact_echo_in_time_is_certain_and_comes_first() {
        let masked = echo(3, MASKED, 101);

        let exact = [masked.clone(), echo(4, CARD, 95), echo(5, CARD, 101)];
        assert_eq!(find(CARD, &exact, &[]), Some((4, true)));
        assert_eq!(find(CARD, &exact, &[4]), Some((5, true)));
        assert_eq!(find(CARD, &exact, &[4, 5]), Some((3, false)));
        assert_eq!(find(CARD, &exact, &[3, 4, 5]), None);
        let untimed = Echo {
            sent_at: None,
            ..echo(6, CARD, 0)
        };
        assert_eq!(find(CARD, &[masked, untimed], &[]), Some((6, true)));
    }

    #[test]
    fn an_altered_echo_and_one_of_a_slow_clock_are_likely() {
        assert_eq!(find(CARD, &[echo(3, MASKED, 101)], &[]), Some((3, false)));
        assert_eq!(find("ok", &[echo(3, "ok", 70)], &[]), Some((3, false)));
        let both = [echo(3, "ok", 50), echo(4, "ok", 70), echo(5, "***", 101)];
        assert_eq!(find("ok", &both, &[]), Some((4, false)));
    }

    #[test]
    fn a_message_of_another_device_is_not_taken_for_it() {
        assert_eq!(find(CARD, &[echo(3, "where is it?", 101)], &[]), None);
        assert_eq!(find("2", &[echo(3, "1", 101)], &[]), None);
    }

    #[test]
    fn an_altered_echo_of_an_older_message_is_not_taken_for_it() {
        let flight = flight(Digest::of_text(CARD));
        let at_99 = [(echo(3, MASKED, 99), at(99))];

        assert_eq!(recognise(&flight, Some(CARD), &at_99, &[]), None);
        assert_eq!(find(CARD, &[echo(3, MASKED, 94)], &[]), None);
    }

    #[test]
    fn a_file_is_known_by_its_path_alone() {
        let flight = flight(Digest::of_file("/v1/a"));
        let other = Echo {
            digest: Digest::of_file("/v1/b").into(),
            sketch: None,
            ..echo(3, "", 101)
        };
        let own = Echo {
            sequence: 4,
            digest: Digest::of_file("/v1/a").into(),
            ..other.clone()
        };

        let others = heard(&[other.clone(), echo(5, "***", 101)]);
        assert_eq!(recognise(&flight, None, &others, &[]), None);
        let found = recognise(&flight, None, &heard(&[other, own]), &[]).unwrap();
        assert_eq!((found.sequence, found.is_certain), (4, true));
    }
}
