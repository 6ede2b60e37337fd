//! Masking of tokens and secrets: people who watch see that there is one, and never its value.
//!
//! Bodies are searched as text, well-formed or not, so that a cut or broken one reveals nothing.

/// The text that replaces a secret.
const MASK: &str = "•••";

/// The lower-case names of members and parameters whose values are secret.
const SECRETS: [&str; 12] = [
    "access_token",
    "api_key",
    "appjwt",
    "client_secret",
    "consumerjws",
    "id_token",
    "jwt",
    "password",
    "refresh_token",
    "signature",
    "temp_url_sig",
    "token",
];

/// The parts of header names that mark a value as secret.
const SECRET_HEADERS: [&str; 7] = [
    "api-key",
    "authorization",
    "cookie",
    "on-behalf",
    "secret",
    "signature",
    "token",
];

/// The beginning of a JWT: `{"` in base64.
const JWT: &str = "eyJ";

/// The length of the shortest run of characters that is taken for a JWT.
const SHORTEST_JWT: usize = 20;

/// Masks the value of a header, given its lower-case name. The scheme of credentials stays.
pub(super) fn header(name: &str, value: &str) -> String {
    if !SECRET_HEADERS.iter().any(|part| name.contains(part)) {
        return text(value);
    }
    match value.split_once(' ') {
        Some((scheme @ ("Bearer" | "Basic"), _)) => format!("{scheme} {MASK}"),
        _ => MASK.to_owned(),
    }
}

/// Masks the tokens in a text, and the values of secret names in JSON, a form, or a query.
pub(super) fn text(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut remaining = text;
    while !remaining.is_empty() {
        let start = remaining.find(is_word_char).unwrap_or(remaining.len());
        let (between, from_word) = remaining.split_at(start);
        shown.push_str(between);
        let end = from_word
            .find(|c| !is_word_char(c))
            .unwrap_or(from_word.len());
        let (word, after) = from_word.split_at(end);
        remaining = after;
        if word.starts_with(JWT) && word.len() >= SHORTEST_JWT {
            shown.push_str(MASK);
            continue;
        }
        shown.push_str(word);
        if SECRETS.contains(&word.to_ascii_lowercase().as_str())
            && let Some((offset, length)) = value_after(after)
        {
            let (offset, from_value) = after.split_at(offset);
            shown.push_str(offset);
            shown.push_str(MASK);
            remaining = from_value.split_at(length).1;
        }
    }
    shown
}

fn is_word_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// Returns the start and the length of the value that follows a name: after `=`, or after a closing
/// quotation mark and a colon. Quotation marks may be escaped, as in JSON within JSON.
fn value_after(text: &str) -> Option<(usize, usize)> {
    if let Some(value) = text.strip_prefix('=') {
        let is_end = |c: char| c.is_whitespace() || "&\"'\\;#,<>".contains(c);
        let length = value.find(is_end).unwrap_or(value.len());
        return (length > 0).then_some((1, length));
    }
    let quote = if text.starts_with("\\\"") {
        "\\\""
    } else {
        "\""
    };
    let value = text.strip_prefix(quote)?.trim_start();
    let value = value.strip_prefix(':')?.trim_start();
    let (value, length) = if let Some(value) = value.strip_prefix(quote) {
        (value, quotation(value, quote))
    } else {
        let is_end = |c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e' | 'E'));
        (value, value.find(is_end).unwrap_or(value.len()))
    };
    (length > 0).then_some((text.len() - value.len(), length))
}

/// Returns the length of a quotation. A quotation that is cut extends to the end of the text.
fn quotation(text: &str, quote: &str) -> usize {
    if quote.len() > 1 {
        return text.find(quote).unwrap_or(text.len());
    }
    let mut escaped = false;
    let end = text.find(|c| match c {
        '\\' => {
            escaped = !escaped;
            false
        }
        '"' if !escaped => true,
        _ => {
            escaped = false;
            false
        }
    });
    end.unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJ1c2VyIjoiYSJ9.c2lnbmF0dXJl";

    #[track_caller]
    fn assert_text(text: &str, expected: &str) {
        assert_eq!(super::text(text), expected);
    }

    #[test]
    fn the_values_of_members_named_like_secrets_are_masked() {
        assert_text(r#"{"token": "abc", "n": 1}"#, r#"{"token": "•••", "n": 1}"#);
        assert_text(
            r#"{"access_token":"a\"b\\","x":2}"#,
            r#"{"access_token":"•••","x":2}"#,
        );
        assert_text(
            r#"{"Token" : 12.5, "b": "token"}"#,
            r#"{"Token" : •••, "b": "token"}"#,
        );
        assert_text(
            r#"{"temp_url_sig":"0af3","temp_url_expires":"1"}"#,
            r#"{"temp_url_sig":"•••","temp_url_expires":"1"}"#,
        );
        assert_text(
            r#""{\"token\":\"abc\",\"x\":1}""#,
            r#""{\"token\":\"•••\",\"x\":1}""#,
        );
    }

    #[test]
    fn a_secret_cut_at_the_end_of_a_body_is_masked() {
        assert_text(r#"{"token": "abc"#, r#"{"token": "•••"#);
        assert_text(&TOKEN[..25], MASK);
    }

    #[test]
    fn the_values_of_parameters_named_like_secrets_are_masked() {
        assert_text(
            "client_id=a&client_secret=s3%20cret&v=1",
            "client_id=a&client_secret=•••&v=1",
        );
        assert_text(
            "http://h/f?temp_url_sig=ab12&temp_url_expires=9",
            "http://h/f?temp_url_sig=•••&temp_url_expires=9",
        );
    }

    #[test]
    fn a_jwt_is_masked_anywhere_in_a_text() {
        assert_text(&format!("see {TOKEN}, please"), "see •••, please");
        assert_text("eyJ is how they begin", "eyJ is how they begin");
    }

    #[test]
    fn text_without_secrets_is_unchanged() {
        for text in [
            "",
            r#"{"text": "my token: 5, tokens=3 and a token", "tokens": ["a"]}"#,
            "Zoë 👋 =\"",
            r#"{"token":null,"password":{"a":1}}"#,
        ] {
            assert_text(text, text);
        }
    }

    #[test]
    fn credential_headers_show_only_their_scheme() {
        assert_eq!(header("authorization", "Bearer abc"), "Bearer •••");
        assert_eq!(header("authorization", "abc def"), MASK);
        assert_eq!(header("x-lp-on-behalf", "abc"), MASK);
        assert_eq!(header("webhook-signature", "v1,abc"), MASK);
        assert_eq!(header("x-liveperson-signature", "sha1=abc"), MASK);
        assert_eq!(
            header("location", "/f?temp_url_sig=a&x=1"),
            "/f?temp_url_sig=•••&x=1"
        );
        assert_eq!(header("webhook-id", "evt_1"), "evt_1");
    }
}
