//! Notifications of the Cloud: each is a different message of an agent, signed.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::cloud::ACCOUNT;

/// The number of notifications per second of a load, more than the service accepts.
const PER_SECOND: u64 = 30_000;

/// The number of the next notification, so that all of a run differ.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Writes the maximum number of notifications for a load of this length, each as a line of
/// signature and a line of body.
pub(crate) fn write(folder: &Path, duration: Duration) -> PathBuf {
    let path = folder.join("notifications");
    let mut file = BufWriter::new(File::create(&path).unwrap());
    for _ in 0..duration.as_secs() * PER_SECOND {
        let (signature, body) = next("Your parcel is on its way");
        writeln!(file, "{signature}\n{body}").unwrap();
    }
    file.flush().unwrap();
    path
}

/// Returns the signature and the body of a new notification.
pub(crate) fn next(text: &str) -> (String, String) {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // One of a thousand users in turn.
    let (user, sequence) = (number % 1000 + 1, number / 1000 + 1);
    let body = format!(
        concat!(
            r#"{{"kind":"notification","type":"ms.MessagingEventNotification","body":{{"changes":[{{"sequence":{sequence},"#,
            r#""originatorId":"{account}.8f09b2be","originatorMetadata":{{"id":"8f09b2be-7a63-4f4e-9f0a-51d11f3f28f1","#,
            r#""role":"ASSIGNED_AGENT"}},"serverTimestamp":4000000000000,"event":{{"type":"ContentEvent","#,
            r#""message":"{text}, number {number}.","contentType":"text/plain"}},"#,
            r#""conversationId":"c-{user}","dialogId":"c-{user}","messageAudience":"ALL"}}]}}}}"#
        ),
        sequence = sequence,
        account = ACCOUNT,
        text = text,
        number = number,
        user = user,
    );
    let key = Key::new(HMAC_SHA256, b"bench-secret");
    let tag = STANDARD.encode(sign(&key, body.as_bytes()));
    (format!("sha256={tag}"), body)
}
