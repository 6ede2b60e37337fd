//! The report file: JSON that can be sent to others. On this machine, only its owner can read it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::Value;
use tempfile::NamedTempFile;

/// A report that is to be written.
#[derive(Debug)]
pub(super) struct ReportFile {
    path: PathBuf,
    /// The file of mode 0600 that replaces the former report once it is complete.
    draft: NamedTempFile,
}

impl ReportFile {
    /// Checks that the report can be written, before there is anything to write. An earlier report
    /// is replaced; any other file of that name is left alone.
    pub(super) fn prepare(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        if fs::symlink_metadata(path).is_ok() && !is_report(path) {
            bail!("{shown} exists and is not a report of doctor; choose another file");
        }
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let draft = NamedTempFile::new_in(folder)
            .with_context(|| format!("no file can be written to the directory of {shown}"))?;
        Ok(Self {
            path: path.to_owned(),
            draft,
        })
    }

    pub(super) fn write(mut self, report: &Value) -> anyhow::Result<()> {
        let shown = self.path.display();
        writeln!(self.draft, "{report:#}")
            .and_then(|()| self.draft.as_file().sync_all())
            .with_context(|| format!("{shown} could not be written"))?;
        self.draft
            .persist(&self.path)
            .with_context(|| format!("{} could not be written", self.path.display()))?;
        Ok(())
    }
}

/// True if the file is a report of an earlier run.
fn is_report(path: &Path) -> bool {
    let is_file = fs::metadata(path).is_ok_and(|it| it.is_file() && it.len() < 4 * 1024 * 1024);
    let text = is_file.then(|| fs::read(path).ok()).flatten();
    let json: Option<Value> = text.and_then(|text| serde_json::from_slice(&text).ok());
    json.is_some_and(|json| json.get("doctor_report").is_some_and(Value::is_u64))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_overwrites_only_an_earlier_report() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        let report = |number: u8| json!({"doctor_report": 1, "number": number});

        for number in [1, 2] {
            let file = ReportFile::prepare(&path).unwrap();
            file.write(&report(number)).unwrap();
            let written: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            assert_eq!(written, report(number));
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        for other in ["listen = 1", "{}", ""] {
            fs::write(&path, other).unwrap();
            let refused = ReportFile::prepare(&path).unwrap_err().to_string();
            assert!(refused.contains("is not a report"), "{refused}");
            assert_eq!(fs::read_to_string(&path).unwrap(), other);
        }
        assert!(ReportFile::prepare(folder.path()).is_err());
        assert!(ReportFile::prepare(&folder.path().join("none/report.json")).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
