//! Fuzzing of `bridge.toml` and of environment variables: reading terminates for any input, and no
//! error shows a secret.
//!
//! The input is the text of a file, which may refer to the variable `${SECRET}`. The part after a
//! line `---` is the value of another variable.

#![no_main]

use libfuzzer_sys::fuzz_target;
use liveperson_bridge::config::{Environment, parse};

/// A secret that no input and no error message contains by chance.
const SECRET: &str = "s3cr3t-é-that-no-key-takes";

fuzz_target!(|input: &str| {
    let (text, value) = input.split_once("\n---\n").unwrap_or((input, ""));
    if input.contains(SECRET) {
        return;
    }
    let environment = Environment::from([
        ("SECRET".to_owned(), SECRET.to_owned()),
        ("BRIDGE_DATABASE__URL".to_owned(), SECRET.to_owned()),
        (
            "BRIDGE_CHANNELS__0__LIMITS__REQUESTS_PER_SECOND".to_owned(),
            value.to_owned(),
        ),
    ]);
    match parse("bridge.toml", text, &environment) {
        Ok(config) => assert!(!format!("{config:?}").contains(SECRET)),
        Err(error) => {
            assert!(!error.to_string().contains(SECRET));
            assert!(!format!("{error:?}").contains(SECRET));
        }
    }
});
