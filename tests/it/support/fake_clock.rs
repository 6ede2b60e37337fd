//! A process's clock that can be set, by the distribution's libfaketime.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use tempfile::TempDir;

/// The parent folder of library folders on Debian and its derivatives.
const FOLDERS: &str = "/usr/lib";

/// The library for programs with threads.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// The wall clock of processes that are started with its environment. Their monotonic clock stays
/// correct, as on a machine whose time was set.
#[derive(Debug)]
pub(crate) struct FakeClock {
    library: PathBuf,
    folder: TempDir,
}

impl FakeClock {
    /// Returns the reason if this machine cannot have one.
    pub(crate) fn missing_requirement() -> Option<String> {
        let reason = "libfaketime is not installed: scripts/install faketime";
        find_library().is_none().then(|| reason.to_owned())
    }

    /// Creates a clock with this offset in seconds, such as `+86400`.
    pub(crate) fn new(offset: &str) -> Self {
        let library = find_library().expect("libfaketime; scripts/install faketime installs it");
        let folder = tempfile::tempdir().unwrap();
        // The database's server runs as another user.
        let mode = Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), mode).unwrap();
        let clock = Self { library, folder };
        clock.set(offset);
        clock
    }

    /// Sets the offset in seconds at once.
    pub(crate) fn set(&self, offset: &str) {
        // A process must not read half of the file, so a complete new file replaces it.
        let fresh = self.folder.path().join("fresh");
        std::fs::write(&fresh, format!("{offset}\n")).unwrap();
        std::fs::rename(fresh, self.file()).unwrap();
    }

    /// Returns the environment variables for a process.
    pub(crate) fn environment(&self) -> [(String, String); 4] {
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        [
            ("LD_PRELOAD", text(self.library.clone())),
            ("FAKETIME_TIMESTAMP_FILE", text(self.file())),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("offset")
    }
}

fn find_library() -> Option<PathBuf> {
    let folders = std::fs::read_dir(FOLDERS).ok()?;
    let folders = folders.filter_map(|folder| Some(folder.ok()?.path()));
    let mut libraries = folders.map(|folder| folder.join(LIBRARY));
    libraries.find(|library| library.exists())
}
