//! The `tracestate` header: data of other participants in a trace, which the bridge only passes on.

use std::ops::RangeInclusive;

/// The maximum number of characters that are passed on. A participant has to pass on at least this
/// many.
const MAX_CHARS: usize = 512;

/// The maximum number of members.
const MAX_MEMBERS: usize = 32;

/// The length above which members are dropped first.
const LONG_CHARS: usize = 128;

/// Combines the headers into the one that is passed on. Returns `None` if a header is malformed or
/// there are no members.
///
/// If the result is too long, long members are dropped first, and then the members at the end,
/// which are the oldest.
pub(super) fn read<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut members = Vec::new();
    for member in headers.into_iter().flat_map(|header| header.split(',')) {
        let member = member.trim_matches([' ', '\t']);
        // Empty members are allowed.
        if member.is_empty() {
            continue;
        }
        if members.len() == MAX_MEMBERS || !is_member(member) {
            return None;
        }
        members.push(member);
    }
    while length(&members) > MAX_CHARS {
        let long = members.iter().rposition(|member| member.len() > LONG_CHARS);
        members.remove(long.unwrap_or(members.len() - 1));
    }
    (!members.is_empty()).then(|| members.join(","))
}

fn length(members: &[&str]) -> usize {
    let commas = members.len().saturating_sub(1);
    members.iter().map(|member| member.len()).sum::<usize>() + commas
}

fn is_member(member: &str) -> bool {
    let Some((key, value)) = member.split_once('=') else {
        return false;
    };
    let is_key = |text: &str, lengths: RangeInclusive<usize>| {
        lengths.contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-*/".contains(&b))
            && !text.starts_with(['_', '-', '*', '/'])
    };
    let is_valid_key = match key.split_once('@') {
        Some((tenant, system)) => is_key(tenant, 1..=241) && is_key(system, 1..=14),
        None => is_key(key, 1..=256),
    };
    is_valid_key
        && (1..=256).contains(&value.len())
        && value.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'=')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_forwarded_tracestate_is_short_and_later_forwarded_unchanged(
            headers in prop::collection::vec("([a-z@]{0,9}=?[ -~]{0,200},?){0,6}", 0..3),
        ) {
            let headers = headers.iter().map(String::as_str);
            if let Some(passed) = read(headers) {
                prop_assert!(passed.len() <= MAX_CHARS);
                prop_assert_eq!(read([&*passed]), Some(passed));
            }
        }
    }

    #[test]
    fn tracestate_headers_are_joined_in_order() {
        assert_eq!(
            read([
                "rojo=00f067aa0ba902b7, congo=t61rcWkgMzE",
                "",
                " a@b=x y ,,"
            ])
            .unwrap(),
            "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE,a@b=x y"
        );
        assert_eq!(read([]), None);
        assert_eq!(read([" ,"]), None);
    }

    #[test]
    fn a_malformed_tracestate_is_dropped_completely() {
        for bad in [
            "rojo",
            "=1",
            "rojo=",
            "Rojo=1",
            "_rojo=1",
            "rojo=1=2",
            "rojo=\u{e9}",
            "rojo=a\nb",
            "@b=1",
            "a@=1",
            "a@b@c=1",
            &format!("{}=1", "k".repeat(257)),
            &format!("rojo={}", "v".repeat(257)),
            &vec!["a=1"; 33].join(","),
        ] {
            assert_eq!(read(["congo=1", bad]), None, "{bad:?}");
        }
        assert!(read([&*vec!["a=1"; 32].join(",")]).is_some());
    }

    #[test]
    fn an_overlong_tracestate_loses_long_members_then_the_oldest() {
        let long = format!("long={}", "l".repeat(150));
        let short: Vec<_> = (0..9).map(|i| format!("s{i}={}", "s".repeat(50))).collect();

        let passed = read([&*long, &*short.join(",")]).unwrap();
        let only_short = read([&*short.join(","), &*short.join(",")]).unwrap();

        assert_eq!(passed, short.join(","));
        assert!(only_short.len() <= MAX_CHARS && only_short.starts_with(&passed));
    }
}
