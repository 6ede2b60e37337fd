//! The temporary URLs at which consumers upload and download files.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::Sending;
use crate::conversations::Consumer;
use crate::files::{self, File};
use crate::messaging::{Failure, check_features};
use crate::operation::Operation;
use crate::schema;
use crate::schema::file::{Announcement, HostedFile, Reference};

impl Sending<'_> {
    /// Announces a new file, which gives it a path. The vendor's procedure requires an open
    /// conversation at this point.
    pub(super) fn announce_upload(&mut self, body: &Value) -> Result<Value, Failure> {
        let Announcement {
            file_size,
            file_type,
        } = schema::read("body", body)?;
        let closed = self.closed();
        let open = self.state.conversations.open_of(&self.consumer);
        let conversation = open.ok_or(closed)?;
        check_features(conversation, self.properties.as_ref())?;
        conversation.record_send(self.now);
        let Consumer {
            account,
            lp_consumer_id: owner,
            ..
        } = self.consumer.clone();
        let extension = file_type.extension();
        let uuid = self.shared.clock.uuid();
        let path = files::path(&account, &owner, uuid, self.now, extension);
        let answer = self.temp_url(Operation::Upload, &path);
        let file = File {
            account,
            owner,
            media_type: files::media_type(extension),
            size: file_size.0,
            content: None,
        };
        self.state.files.announce(path, file);
        Ok(answer)
    }

    /// Returns the URL of a file. It may be any file of the account, even if its conversation is
    /// closed.
    pub(super) fn locate_download(&self, body: &Value) -> Result<Value, Failure> {
        let Reference {
            relative_path: path,
        } = schema::read("body", body)?;
        let account = &self.consumer.account;
        match self.state.files.get(&path) {
            Some(file) if file.account == *account => Ok(self.temp_url(Operation::Download, &path)),
            // The Cloud's own answer is not documented.
            _ => Err(Failure {
                status: StatusCode::NOT_FOUND,
                code: "NOT_FOUND",
                msg: format!(
                    "Not Found, body.relativePath: account `{account}` has no file `{path}`"
                ),
            }),
        }
    }

    /// Refuses a file that the consumer has not uploaded completely.
    pub(super) fn check_upload(&self, published: &HostedFile) -> Result<(), Failure> {
        let path = &published.relative_path;
        let file = self.state.files.get(path);
        let owner = &self.consumer.lp_consumer_id;
        let reason = match file.filter(|file| file.owner == *owner) {
            None => "which the consumer never announced".to_owned(),
            Some(File { content: None, .. }) => "where nothing was uploaded".to_owned(),
            Some(File {
                content: Some(content),
                size,
                ..
            }) if content.len() != *size => {
                format!("where {} of {size} bytes were uploaded", content.len())
            }
            Some(_) => return Ok(()),
        };
        Err(Failure::bad_request(&format!(
            "check size and corruption: body.event.message.relativePath is `{path}`, {reason}"
        )))
    }

    fn temp_url(&self, operation: Operation, path: &str) -> Value {
        let temp_urls = &self.shared.temp_urls;
        let parameters = temp_urls.issue(&operation.method(), path, self.now);
        json!({"relativePath": path, "queryParams": parameters})
    }
}
