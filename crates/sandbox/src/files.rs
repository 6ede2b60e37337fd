//! The files of the Cloud: a SEND announces a file, which gives it its path, and an upload fills it. An agent's file is
//! both at once.
//!
//! Announcements stay, as conversations do; contents are held up to a bound on their total, and the oldest upload
//! gives way to a new one. A file whose content gave way is as if it had never been uploaded.

use std::collections::{HashMap, VecDeque};

use axum::body::Bytes;
use chrono::{DateTime, Utc};
use uuid::Uuid;

/// Bytes: some twenty of the largest files.
const CAPACITY: usize = 64 * 1024 * 1024;

/// A file that someone announced.
#[derive(Debug)]
pub(super) struct File {
    /// Account id.
    pub(super) account: String,
    /// The Cloud's id of the participant who announced it.
    pub(super) owner: String,
    pub(super) media_type: &'static str,
    /// Bytes, as announced.
    pub(super) size: usize,
    /// What was uploaded.
    pub(super) content: Option<Bytes>,
}

/// Every file since the start.
#[derive(Debug, Default)]
pub(super) struct Files {
    by_path: HashMap<String, File>,
    /// Paths of the files that have a content, the oldest upload first.
    uploaded: VecDeque<String>,
    /// Bytes of all contents.
    held: usize,
}

impl Files {
    pub(super) fn announce(&mut self, path: String, file: File) {
        self.by_path.insert(path, file);
    }

    pub(super) fn get(&self, path: &str) -> Option<&File> {
        self.by_path.get(path)
    }

    /// A file by its path, with or without the slash at its beginning, or by the last part of it, which is unique.
    pub(super) fn find(&self, path: &str) -> Option<&File> {
        let path = path.trim_start_matches('/');
        let named = |known: &String| known.rsplit('/').next() == Some(path);
        self.get(&format!("/{path}")).or_else(|| {
            let found = self.by_path.iter().find(|(known, _)| named(known));
            found.map(|(_, file)| file)
        })
    }

    /// Fills an announced file, or replaces its content.
    pub(super) fn fill(&mut self, path: &str, content: Bytes) {
        self.clear(path);
        if let Some(file) = self.by_path.get_mut(path) {
            self.held += content.len();
            file.content = Some(content);
            self.uploaded.push_back(path.to_owned());
        }
        while self.held > CAPACITY
            && let Some(oldest) = self.uploaded.front().cloned()
        {
            self.clear(&oldest);
        }
    }

    fn clear(&mut self, path: &str) {
        let file = self.by_path.get_mut(path);
        if let Some(content) = file.and_then(|file| file.content.take()) {
            self.held -= content.len();
            self.uploaded.retain(|uploaded| uploaded != path);
        }
    }
}

/// Where a new file of a participant is put. Source: vendor's Send API examples, section on file sharing.
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

/// The media type of a file type in upper-case letters.
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
