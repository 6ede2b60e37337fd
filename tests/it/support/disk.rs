//! A disk of a test's own that can be filled, if the machine allows the mount.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// The script of the guard process. It unmounts the disk when the test ends, no matter how.
/// Programs that still use the disk can do so until they end.
const GUARD: &str = r#"
    read -r _
    umount --lazy "$1"
    rmdir "$1"
"#;

/// A disk in memory, mounted on a folder of its own until this value is dropped.
#[derive(Debug)]
pub(crate) struct Disk {
    folder: PathBuf,
    mebibytes: u32,
    guard: Child,
}

impl Disk {
    /// Returns the reason if this machine cannot mount one.
    pub(crate) fn missing_requirement() -> Option<String> {
        Self::try_mount(1)
            .err()
            .map(|error| format!("no tmpfs can be mounted: {error}"))
    }

    /// Mounts a disk of this size.
    pub(crate) fn mount(mebibytes: u32) -> Self {
        Self::try_mount(mebibytes).unwrap()
    }

    fn try_mount(mebibytes: u32) -> Result<Self, String> {
        // Below /tmp, because the users of other programs may enter it.
        let folder = TempDir::with_prefix_in("liveperson-bridge-disk.", "/tmp").unwrap();
        let size = format!("size={mebibytes}m,mode=755");
        mount(&["-t", "tmpfs", "-o", &size, "tmpfs"], folder.path())?;
        let folder = folder.keep();
        let guard = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Signals to the test's process group must not reach it.
            .process_group(0)
            .spawn()
            .unwrap();
        Ok(Self {
            folder,
            mebibytes,
            guard,
        })
    }

    /// Returns the mount point.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Leaves no free space.
    pub(crate) fn fill(&self) {
        let mut used = Command::new("df");
        used.args(["--block-size=1024", "--output=used"])
            .arg(&self.folder);
        let used = String::from_utf8(used.output().unwrap().stdout).unwrap();
        let used: u64 = used.lines().nth(1).unwrap().trim().parse().unwrap();
        // The system refuses a size below the space in use at that moment.
        let filled = (0..64).any(|more| self.resize(&format!("{}k", used + 4 * more)));
        assert!(
            filled,
            "{used} KiB are used, but the disk cannot be shrunk to that size"
        );
    }

    /// Restores the free space.
    pub(crate) fn free(&self) {
        assert!(self.resize(&format!("{}m", self.mebibytes)));
    }

    fn resize(&self, size: &str) -> bool {
        let options = format!("remount,size={size}");
        mount(&["-o", &options], &self.folder).is_ok()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The guard waits for the end of its input.
        if let Some(mut input) = self.guard.stdin.take() {
            let _may_be_gone = input.write_all(b"\n");
        }
        let _may_be_gone = self.guard.wait();
    }
}

fn mount(arguments: &[&str], folder: &Path) -> Result<(), String> {
    let mut command = Command::new("mount");
    let output = command.args(arguments).arg(folder).output();
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}
