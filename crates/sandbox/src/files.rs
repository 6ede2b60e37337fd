//! The files of the simulated Cloud. A SEND announces a file, which gives it a path, and an upload
//! fills it. An agent's file is announced and filled at once.
//!
//! Announcements are kept forever, as conversations are. Contents are kept up to a limit on their
//! total size: a new upload displaces the oldest ones. A file whose content was displaced looks as
//! if it had never been uploaded.

use std::collections::{HashMap, VecDeque};

use axum::body::Bytes;
use chrono::{DateTime, Utc};
use uuid::Uuid;

/// The highest number of bytes of all contents: about twenty of the largest files.
const CAPACITY: usize = 64 * 1024 * 1024;

/// An announced file.
#[derive(Debug)]
pub(super) struct File {
    /// The account id.
    pub(super) account: String,
    /// The Cloud's id of the participant who announced it.
    pub(super) owner: String,
    pub(super) media_type: &'static str,
    /// The size in bytes, as announced.
    pub(super) size: usize,
    /// The uploaded content.
    pub(super) content: Option<Bytes>,
}

/// All files since the start.
#[derive(Debug, Default)]
pub(super) struct Files {
    by_path: HashMap<String, File>,
    /// The paths of the files with a content, the oldest upload first.
    uploaded: VecDeque<String>,
    /// The number of bytes of all contents.
    total_bytes: usize,
}

impl Files {
    pub(super) fn announce(&mut self, path: String, file: File) {
        self.by_path.insert(path, file);
    }

    pub(super) fn get(&self, path: &str) -> Option<&File> {
        self.by_path.get(path)
    }

    /// Finds a file by its path, with or without the leading slash, or by the last part of the
    /// path, which is unique.
    pub(super) fn find(&self, path: &str) -> Option<&File> {
        let path = path.trim_start_matches('/');
        let has_name = |known: &String| known.rsplit('/').next() == Some(path);
        self.get(&format!("/{path}")).or_else(|| {
            let found = self.by_path.iter().find(|(known, _)| has_name(known));
            found.map(|(_, file)| file)
        })
    }

    /// Fills an announced file, or replaces its content.
    pub(super) fn fill(&mut self, path: &str, content: Bytes) {
        self.clear(path);
        if let Some(file) = self.by_path.get_mut(path) {
            self.total_bytes += content.len();
            file.content = Some(content);
            self.uploaded.push_back(path.to_owned());
        }
        while self.total_bytes > CAPACITY
            && let Some(oldest) = self.uploaded.front().cloned()
        {
            self.clear(&oldest);
        }
    }

    fn clear(&mut self, path: &str) {
        let file = self.by_path.get_mut(path);
        if let Some(content) = file.and_then(|file| file.content.take()) {
            self.total_bytes -= content.len();
            self.uploaded.retain(|uploaded| uploaded != path);
        }
    }
}

/// Returns the path of a participant's new file. Source: vendor's Send API examples, section on
/// file sharing.
pub(super) fn path(
    account: &str,
    owner: &str,
    uuid: Uuid,
    now: DateTime<Utc>,
    extension: &str,
) -> String {
    let time = now.format("%d-%m-%Y_%H-%M-%S-%3f");
    format!("/v1/AUTH_async-images/{account}/{owner}_uuid_{uuid}_{time}.{extension}")
}

/// Returns the media type of a file type in upper-case letters.
pub(super) fn media_type(file_type: &str) -> &'static str {
    match file_type {
        "JPG" | "JPEG" => "image/jpeg",
        "PNG" => "image/png",
        "GIF" => "image/gif",
        "TXT" => "text/plain; charset=utf-8",
        "PDF" => "application/pdf",
        _ => "application/octet-stream",
    }
}
