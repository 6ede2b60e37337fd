//! The limits on bodies and on the duration of a request.

use std::time::Duration;

/// 256 KiB: far above the longest text that the Cloud takes. A profile is smaller.
pub(super) const JSON_LIMIT: usize = 256 * 1024;

/// 2 minutes: above the duration of the longest request. In such a request, a file arrives slowly
/// and waits while another replica opens a conversation. Then the request opens one itself, and the
/// last attempt stores the file.
pub(super) const REQUEST_LIMIT: Duration = Duration::from_mins(2);

/// 4 MiB: a hundred changes with a preview of 30 KB each, and some room. The Cloud repeats a
/// notification that is refused for its size, so the limit is far above the largest one seen.
pub(super) const NOTIFICATION_LIMIT: usize = 4 * 1024 * 1024;
