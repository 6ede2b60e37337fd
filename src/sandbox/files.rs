//! The files of the Cloud: a SEND announces a file, which gives it its path, and an upload fills it.
//!
//! Announcements stay, as conversations do; contents are held up to a bound on their total, and the oldest upload
//! gives way to a new one. A file whose content gave way is as if it had never been uploaded.

use std::collections::{HashMap, VecDeque};

use axum::body::Bytes;

use super::conversations::Consumer;
use super::schema::file::FileType;

/// Bytes: some twenty of the largest files.
const CAPACITY: usize = 64 * 1024 * 1024;

/// A file that a consumer announced.
#[derive(Debug)]
pub(super) struct File {
    pub(super) owner: Consumer,
    pub(super) kind: FileType,
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
