//! Fuzzing of files that begin like a picture. Making a preview terminates, in bounded memory and
//! without a panic, and the result is small enough to be sent.
//!
//! The input is a JPEG, a PNG or a GIF.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use liveperson_bridge::media::Previews;
use liveperson_bridge::types::file::ImageType;
use tokio::runtime::{Builder, Runtime};

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().unwrap());

fuzz_target!(|input: &[u8]| {
    let Some(kind) = ImageType::of(input) else {
        return;
    };
    let (channel, content) = ("sms".parse().unwrap(), input.to_vec().into());
    let previews = Previews::default();
    if let Some(preview) = RUNTIME.block_on(previews.create(&channel, kind, content, ())) {
        assert!(preview.len() < 30_000);
    }
});
