//! Files: their bytes are sent to and read from the Cloud's storage, at temporary URLs that SEND
//! returns.
//!
//! Such a URL is its own credential, for one method on one file and for one minute. So the storage
//! receives no token. If the storage refuses a URL nevertheless (401, 403 or 404), the bridge
//! requests one new URL. Storing and fetching can be repeated without harm. Only publishing a file
//! cannot, and that is a message like any other.

use tokio_util::bytes::Bytes;
use url::Url;

use super::host::{Host, below};
use super::retry::{RetryPolicy, repeated};
use super::send::Sent;
use super::service::Service;
use super::wire::file::{DownloadUrl, TemporaryUrl, UploadUrl};
use super::{Client, Consumer, Conversation, Error, answer};
use crate::http::header::{CONTENT_LENGTH, HeaderMap};
use crate::http::{self, Answer, Method, Streamed};
use crate::types::conversation::Features;
use crate::types::file::ImageType;
use crate::types::ids::AccountId;
use crate::types::trace::Trace;

const UPLOAD_URL: &str = "ms.GenerateURLForUploadFile";
const DOWNLOAD_URL: &str = "ms.GenerateURLForDownloadFile";

/// A file that is arriving from the storage.
#[derive(Debug)]
pub struct Download {
    /// The length in bytes, if the storage reports it.
    pub length: Option<u64>,
    /// The bytes.
    pub body: http::Body,
}

impl Client {
    /// Stores a file for the conversation's consumer, so that it can be published; returns the path
    /// that names it.
    ///
    /// # Errors
    ///
    /// See [`Error`]. The outcome is never unknown, since storing can be repeated without harm.
    pub async fn upload(
        &self,
        conversation: &Conversation<'_>,
        kind: ImageType,
        content: &Bytes,
        trace: &Trace,
    ) -> Result<String, Error> {
        let account = conversation.consumer.account;
        let size = content.len().to_string();
        let locate = async || {
            let body = UploadUrl {
                file_size: &size,
                file_type: kind.as_str(),
            };
            let sent = conversation.request("cloud.upload_url", UPLOAD_URL, body);
            self.locate(sent, trace).await
        };
        let mut place = locate().await?;
        let mut outcome = self.store(account, &place, content, trace).await;
        if is_expired(&outcome) {
            place = locate().await?;
            outcome = self.store(account, &place, content, trace).await;
        }
        outcome.map(|()| place.relative_path)
    }

    /// Checks if the account may share files: requests an upload URL for a small image of a
    /// consumer, and does not use it.
    ///
    /// # Errors
    ///
    /// See [`Error`]. [`Error::Refused`] if the account may not. [`Error::ConversationClosed`] if
    /// the Cloud requires an open conversation for this request. The vendor's instructions open one
    /// first, and do not say if that is necessary.
    pub async fn check_file_sharing(
        &self,
        consumer: Consumer<'_>,
        trace: &Trace,
    ) -> Result<(), Error> {
        // The size and the kind in the vendor's own example.
        let body = UploadUrl {
            file_size: "1000",
            file_type: ImageType::Png.as_str(),
        };
        let features = Features::default();
        let sent = Sent::new(
            "cloud.check_file_sharing",
            consumer,
            &features,
            UPLOAD_URL,
            body,
        );
        self.locate(sent, trace).await.map(drop)
    }

    /// Fetches a file of the consumer's account. `features` are those of the consumer's
    /// conversation.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn download(
        &self,
        consumer: Consumer<'_>,
        features: &Features,
        relative_path: &str,
        trace: &Trace,
    ) -> Result<Download, Error> {
        let locate = async || {
            let body = DownloadUrl { relative_path };
            let sent = Sent::new("cloud.download_url", consumer, features, DOWNLOAD_URL, body);
            self.locate(sent, trace).await.map_err(gone)
        };
        let mut outcome = self.fetch(consumer.account, &locate().await?, trace).await;
        if is_expired(&outcome) {
            outcome = self.fetch(consumer.account, &locate().await?, trace).await;
        }
        outcome
    }

    /// Requests a temporary URL.
    async fn locate(
        &self,
        sent: Sent<'_, impl serde::Serialize>,
        trace: &Trace,
    ) -> Result<TemporaryUrl, Error> {
        let sent = sent.repeated(RetryPolicy::Freely);
        self.send(sent, trace, |url, _| Some(url)).await
    }

    async fn store(
        &self,
        account: &AccountId,
        place: &TemporaryUrl,
        content: &Bytes,
        trace: &Trace,
    ) -> Result<(), Error> {
        let transport = &self.site(account)?.transport;
        let limits = transport.limits;
        repeated(RetryPolicy::Freely, limits.pause, || async {
            let put = |host: &Host| {
                let url = url_of(&host.base, place);
                let request = http::request_to(Method::PUT, &url, content.clone());
                let http = &transport.http;
                async move {
                    http.send("cloud.upload", trace, limits.upload, request?)
                        .await
                }
            };
            transport
                .watch
                .measured("cloud.upload", async || {
                    let read = |answer: Answer| {
                        answer::accepted(&answer, transport.clock.now()).map_err(of_storage)
                    };
                    transport.reach(Service::Storage, trace, put, read).await
                })
                .await
        })
        .await
    }

    async fn fetch(
        &self,
        account: &AccountId,
        place: &TemporaryUrl,
        trace: &Trace,
    ) -> Result<Download, Error> {
        let transport = &self.site(account)?.transport;
        repeated(RetryPolicy::Freely, transport.limits.pause, || async {
            let get = |host: &Host| {
                let url = url_of(&host.base, place);
                let request = http::request_to(Method::GET, &url, Bytes::new());
                let http = &transport.http;
                async move { http.stream("cloud.download", trace, request?).await }
            };
            transport
                .watch
                .measured("cloud.download", async || {
                    let read = |streamed: Streamed| {
                        let length = length(&streamed.headers);
                        // The body of a refusal is not worth waiting for.
                        let begun = Answer {
                            status: streamed.status,
                            headers: streamed.headers,
                            body: Bytes::new(),
                        };
                        let accepted = answer::accepted(&begun, transport.clock.now());
                        accepted.map_err(|error| gone(of_storage(error)))?;
                        Ok(Download {
                            length,
                            body: streamed.body,
                        })
                    };
                    transport.reach(Service::Storage, trace, get, read).await
                })
                .await
        })
        .await
    }
}

/// Returns the URL below a base, with one slash between the two. The signature covers the path, and
/// `//v1` is a different path.
fn url_of(base: &Url, place: &TemporaryUrl) -> Url {
    let path = format!("/{}", place.relative_path.trim_start_matches('/'));
    below(base, &path, &place.query())
}

/// True if a new temporary URL may resolve the error: the URL has expired, or was signed for a host
/// that has moved.
fn is_expired<T>(outcome: &Result<T, Error>) -> bool {
    matches!(
        outcome,
        Err(Error::Refused { status: 401, .. } | Error::Blocked { status: 403 | 404 })
    )
}

/// Returns the error of a refused temporary URL that SEND has just returned. As documented, the
/// storage answers 401 for a URL that it does not accept, and 413 for a file that is too large.
/// Every other status says nothing about the file, which may be stored at another URL.
fn of_storage(error: Error) -> Error {
    match error {
        Error::Unauthorized { code, title, .. } => Error::Refused {
            status: 401,
            code,
            title,
        },
        Error::Refused { status, .. } if status != 413 => Error::Blocked { status },
        error => error,
    }
}

/// Returns the error of a file that no longer exists. A download requests only that file. So any
/// 404 or 410 means that the file is gone, even if a gateway answers.
fn gone(error: Error) -> Error {
    match error {
        Error::Blocked {
            status: status @ (404 | 410),
        } => Error::Refused {
            status,
            code: None,
            title: "the file does not exist".to_owned(),
        },
        error => error,
    }
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
