//! Bounds on bodies and on the time of a request.

use std::time::Duration;

/// 256 KiB: far above what the Cloud takes of a text, and a profile is smaller.
pub(super) const JSON_LIMIT: usize = 256 * 1024;

/// 2 minutes: above the longest way of a request, that of a file that arrives slowly, waits for another replica's opening,
/// opens in its place and is stored at the last try.
pub(super) const REQUEST_LIMIT: Duration = Duration::from_mins(2);

/// 4 MiB: a hundred changes, each with a preview of 30 KB, and room. A larger body is refused again and again, so the limit is far
/// beyond what the Cloud was seen to send.
pub(super) const NOTIFICATION_LIMIT: usize = 4 * 1024 * 1024;
