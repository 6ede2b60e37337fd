//! Placeholders in strings of the file: `${NAME}` is replaced from the environment, and `$${`
//! stands for `${` itself.

use super::Environment;
use super::form::without_line_breaks;

/// Replaces every placeholder in a text. If that fails, returns a description of the expected text.
///
/// The value of a variable is taken as it is, except for line breaks at its ends. A `${` in it is
/// not replaced.
pub(super) fn fill(text: &str, environment: &Environment) -> Result<String, String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            filled.push_str(before);
            filled.push_str("${");
            rest = after;
            continue;
        }
        let (name, after) = after
            .split_once('}')
            .filter(|(name, _)| is_variable_name(name))
            .ok_or("${NAME} with the name of a variable, or $${ for ${ itself")?;
        let value = environment
            .get(name)
            .ok_or_else(|| format!("the environment variable {name} to be set"))?;
        filled.push_str(before);
        filled.push_str(without_line_breaks(value));
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

fn is_variable_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Result<String, String> {
        let environment = [("A", "1"), ("B_2", "${A}"), ("LINES", "\n1\n 2 \r\n\n")];
        let environment = environment.map(|(k, v)| (k.to_owned(), v.to_owned()));
        fill(text, &environment.into())
    }

    #[test]
    fn placeholders_are_replaced_once_and_other_dollar_signs_stay() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("${A}", "1"),
            ("x${A}y${A}", "x1y1"),
            ("x${LINES}y\n", "x1\n 2 y\n"),
            ("${B_2}", "${A}"),
            ("$${A}", "${A}"),
            ("$A $ $$ {A}", "$A $ $$ {A}"),
            ("é${A}é", "é1é"),
        ] {
            assert_eq!(filled(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn an_error_names_an_unset_variable_and_quotes_no_malformed_placeholder() {
        assert_eq!(
            filled("a${GONE}b").unwrap_err(),
            "the environment variable GONE to be set"
        );
        for text in ["${", "${}", "${A", "${A B}", "${A-1}", "${é}"] {
            assert_eq!(
                filled(text).unwrap_err(),
                "${NAME} with the name of a variable, or $${ for ${ itself",
                "{text}"
            );
        }
    }
}
