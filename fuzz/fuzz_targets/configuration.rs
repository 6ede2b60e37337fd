//! Whatever stands in `bridge.toml` and in the environment: reading it ends, and no error quotes a secret.
//!
//! The input is the text of a file, which may name the variable `${SECRET}`, and after a line `---` the value of another variable.

#![no_main]

use libfuzzer_sys::fuzz_target;
use liveperson_bridge::config::{Environment, parse};

/// What is in no input by chance, and in no message either.
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
