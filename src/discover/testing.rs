//! A folder for a made-up tree, gone when it is dropped.

use std::path::{Path, PathBuf};

pub(super) struct Folder(PathBuf);

impl Folder {
    /// An empty folder; `name` keeps the tests of one run apart.
    pub(super) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("bareverbs-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file and the folders above it.
    pub(super) fn file(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.0.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
