//! Recognition of a message of unknown outcome among the echoes of the user's messages.
//!
//! A publish request to the Cloud has no id from its sender, so an echo is recognized by its
//! dialog, its time and its content. An echo with exactly the same content is that of the message.
//! But the Cloud can alter the content, for instance mask a card number, and its clock can be slow.
//! So an echo that is only likely counts as well, but later: once an exact echo would have come,
//! and just before the message would be sent again. At most one message of a user is in flight at a
//! time, since the others wait in the user's lane. So only two other messages could be mistaken for
//! it: one that another device of the same person wrote at that moment, and one that another
//! replica sent without a lane just before.

use chrono::{DateTime, TimeDelta, Utc};

use crate::store::{Echo, InFlight};
use crate::types::message::Sequence;
use crate::types::sketch::Sketch;

/// 5 s: the usual limit on how far the Cloud's clock is behind ours. An echo with an earlier time
/// may be of an older message with the same content.
const USUAL_SKEW: TimeDelta = TimeDelta::seconds(5);

/// An echo that was found for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::outbox) struct FoundEcho {
    /// The sequence that the Cloud gave the message.
    pub(in crate::outbox) sequence: Sequence,
    /// True if the content is exactly the same and the time fits.
    pub(in crate::outbox) is_certain: bool,
}

/// Finds the echo of an attempt among the echoes since it began, each with its time of arrival.
///
/// `text` is the text that was sent, or `None` for a file: a file's echo has the same path, or it
/// is of another file. `other_sequences` are sequences that are known to belong to other messages.
pub(super) fn recognise(
    in_flight: &InFlight,
    text: Option<&str>,
    echoes: &[(Echo, DateTime<Utc>)],
    other_sequences: &[Sequence],
) -> Option<FoundEcho> {
    let unattributed = || {
        let echoes = echoes.iter();
        echoes.filter(|(echo, _)| !other_sequences.contains(&echo.sequence))
    };
    let has_same_content = |echo: &Echo| echo.digest == in_flight.digest;
    let is_in_time = |echo: &Echo| {
        let sent_at = echo.sent_at;
        sent_at.is_none_or(|at| at >= in_flight.begun_at - USUAL_SKEW)
    };
    let certain = unattributed().find(|(echo, _)| has_same_content(echo) && is_in_time(echo));
    if let Some((echo, _)) = certain {
        return Some(FoundEcho {
            sequence: echo.sequence,
            is_certain: true,
        });
    }
    let sent = text.map(Sketch::of);
    let is_altered = |echo: &Echo| {
        let sketches = echo.sketch.as_ref().zip(sent.as_ref());
        sketches.is_some_and(|(echoed, sent)| echoed.may_be_altered_from(sent))
    };
    // An echo that came before the attempt is of an older message, which may be similar.
    let recent = || unattributed().filter(|(_, received_at)| *received_at >= in_flight.begun_at);
    // The latest of several: the others are of older messages.
    let likely = recent()
        .rfind(|(echo, _)| has_same_content(echo))
        .or_else(|| recent().rfind(|(echo, _)| is_in_time(echo) && is_altered(echo)));
    likely.map(|(echo, _)| FoundEcho {
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

    /// Returns an attempt that began at 100 s.
    fn in_flight(digest: Digest) -> InFlight {
        InFlight {
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

    /// Returns the echoes, all of which came at 102 s.
    fn received(echoes: &[Echo]) -> Vec<(Echo, DateTime<Utc>)> {
        let echoes = echoes.iter().cloned();
        echoes.map(|echo| (echo, at(102))).collect()
    }

    fn find(text: &str, echoes: &[Echo], other_sequences: &[Sequence]) -> Option<(Sequence, bool)> {
        let in_flight = in_flight(Digest::of_text(text));
        let found = recognise(&in_flight, Some(text), &received(echoes), other_sequences);
        found.map(|it| (it.sequence, it.is_certain))
    }

    #[test]
    fn an_exact_and_timely_echo_is_certain_and_preferred() {
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
    fn an_altered_echo_or_one_from_a_slow_clock_is_likely() {
        assert_eq!(find(CARD, &[echo(3, MASKED, 101)], &[]), Some((3, false)));
        assert_eq!(find("ok", &[echo(3, "ok", 70)], &[]), Some((3, false)));
        let both = [echo(3, "ok", 50), echo(4, "ok", 70), echo(5, "***", 101)];
        assert_eq!(find("ok", &both, &[]), Some((4, false)));
    }

    #[test]
    fn a_message_from_another_device_is_not_an_echo() {
        assert_eq!(find(CARD, &[echo(3, "where is it?", 101)], &[]), None);
        assert_eq!(find("2", &[echo(3, "1", 101)], &[]), None);
    }

    #[test]
    fn an_altered_echo_of_an_older_message_does_not_match() {
        let in_flight = in_flight(Digest::of_text(CARD));
        let at_99 = [(echo(3, MASKED, 99), at(99))];

        assert_eq!(recognise(&in_flight, Some(CARD), &at_99, &[]), None);
        assert_eq!(find(CARD, &[echo(3, MASKED, 94)], &[]), None);
    }

    #[test]
    fn the_echo_of_a_file_is_recognized_only_by_its_path() {
        let in_flight = in_flight(Digest::of_file("/v1/a"));
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

        let other_echoes = received(&[other.clone(), echo(5, "***", 101)]);
        assert_eq!(recognise(&in_flight, None, &other_echoes, &[]), None);
        let found = recognise(&in_flight, None, &received(&[other, own]), &[]).unwrap();
        assert_eq!((found.sequence, found.is_certain), (4, true));
    }
}
