//! Files: the Cloud's storage receives and returns their bytes at temporary URLs that SEND issues.
//!
//! Such a URL is its own credential, for one method on one file and for one minute. So the storage
//! receives no token. If the storage refuses a URL nevertheless (401, 403 or 404), the bridge
//! requests one new URL. Storing and fetching can be repeated without harm. Only publishing a file
//! cannot, and that is a message like any other.

use tokio_util::bytes::Bytes;
use url::Url;

use super::host::{Host, below};
use super::retry::{RetryPolicy, with_retries};
use super::send::SendRequest;
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
            let request = conversation.request("cloud.upload_url", UPLOAD_URL, body);
            self.request_location(request, trace).await
        };
        let mut location = locate().await?;
        let mut outcome = self.store(account, &location, content, trace).await;
        if is_expired(&outcome) {
            location = locate().await?;
            outcome = self.store(account, &location, content, trace).await;
        }
        outcome.map(|()| location.relative_path)
    }

    /// Checks if the account may share files: requests an upload URL for a small image of a
    /// consumer, and does not use the URL.
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
        let request = SendRequest::new(
            "cloud.check_file_sharing",
            consumer,
            &features,
            UPLOAD_URL,
            body,
        );
        self.request_location(request, trace).await.map(drop)
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
            let operation = "cloud.download_url";
            let request = SendRequest::new(operation, consumer, features, DOWNLOAD_URL, body);
            let location = self.request_location(request, trace).await;
            location.map_err(missing_file)
        };
        let mut outcome = self.fetch(consumer.account, &locate().await?, trace).await;
        if is_expired(&outcome) {
            outcome = self.fetch(consumer.account, &locate().await?, trace).await;
        }
        outcome
    }

    /// Requests a temporary URL.
    async fn request_location(
        &self,
        request: SendRequest<'_, impl serde::Serialize>,
        trace: &Trace,
    ) -> Result<TemporaryUrl, Error> {
        let request = request.with_retry(RetryPolicy::Freely);
        self.send(request, trace, |url, _| Some(url)).await
    }

    async fn store(
        &self,
        account: &AccountId,
        location: &TemporaryUrl,
        content: &Bytes,
        trace: &Trace,
    ) -> Result<(), Error> {
        let transport = &self.client_of(account)?.transport;
        let limits = transport.limits;
        with_retries(RetryPolicy::Freely, limits.pause, || async {
            let put = |host: &Host| {
                let url = url_of(&host.base, location);
                let request = http::request_to(Method::PUT, &url, content.clone());
                let http = &transport.http;
                async move {
                    http.send("cloud.upload", trace, limits.upload, request?)
                        .await
                }
            };
            transport
                .observer
                .measure("cloud.upload", async || {
                    let read = |answer: Answer| {
                        answer::check_status(&answer, transport.clock.now()).map_err(storage_error)
                    };
                    transport.send_to(Service::Storage, trace, put, read).await
                })
                .await
        })
        .await
    }

    async fn fetch(
        &self,
        account: &AccountId,
        location: &TemporaryUrl,
        trace: &Trace,
    ) -> Result<Download, Error> {
        let transport = &self.client_of(account)?.transport;
        with_retries(RetryPolicy::Freely, transport.limits.pause, || async {
            let get = |host: &Host| {
                let url = url_of(&host.base, location);
                let request = http::request_to(Method::GET, &url, Bytes::new());
                let http = &transport.http;
                async move { http.stream("cloud.download", trace, request?).await }
            };
            transport
                .observer
                .measure("cloud.download", async || {
                    let read = |streamed: Streamed| {
                        let length = length(&streamed.headers);
                        // The body of a refusal is not worth waiting for.
                        let head = Answer {
                            status: streamed.status,
                            headers: streamed.headers,
                            body: Bytes::new(),
                        };
                        let checked = answer::check_status(&head, transport.clock.now());
                        checked.map_err(|error| missing_file(storage_error(error)))?;
                        Ok(Download {
                            length,
                            body: streamed.body,
                        })
                    };
                    transport.send_to(Service::Storage, trace, get, read).await
                })
                .await
        })
        .await
    }
}

/// Returns the URL below a base, with one slash between the two. The signature covers the path, and
/// `//v1` is a different path.
fn url_of(base: &Url, location: &TemporaryUrl) -> Url {
    let path = format!("/{}", location.relative_path.trim_start_matches('/'));
    below(base, &path, &location.query())
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
fn storage_error(error: Error) -> Error {
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
fn missing_file(error: Error) -> Error {
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
