//! Dead letters in a file of this machine.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use kcl_lease::runtime::Runtime;
use tokio::sync::Mutex;

use super::{DeadLetter, DeadLetterSink};
use crate::processor::BoxError;

/// Appends letters to a file, a line of JSON each, see [`DeadLetter::to_json`].
///
/// A letter is accepted once it is synced to the disk. The file is opened for each letter, so that it can be moved away at
/// any time. A crash or a full disk can leave part of a line behind: the next letter begins on a line of its own, and
/// whoever reads the file passes over lines that are not JSON. A new file can be read by its owner only (on Unix).
///
/// Files of containers go with them: let the path lie on a volume that stays.
#[derive(Debug, Clone)]
pub struct FileSink {
    path: Arc<Path>,
    /// Held while a letter is written.
    turn: Arc<Mutex<()>>,
    runtime: Runtime,
}

impl FileSink {
    /// A sink that appends to the file at `path`, and makes it if it is not there.
    ///
    /// # Errors
    /// When the file cannot be made or written.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        open(&path)?;
        sync_folder(&path)?;
        Ok(Self {
            path: path.into(),
            turn: Arc::default(),
            runtime: Runtime::production(),
        })
    }
}

#[async_trait]
impl DeadLetterSink for FileSink {
    async fn accept(&self, letter: DeadLetter) -> Result<(), BoxError> {
        let path = Arc::clone(&self.path);
        // Waited for here, not on a thread that others need. The write keeps it if this future is dropped.
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let write = async move {
            let _turn = turn;
            append(&path, &letter.to_json(), sync_folder)
        };
        self.runtime
            .on_blocking_thread(write)
            .await
            .map_err(|error| format!("dead-letter file {}: {error}", self.path.display()).into())
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn append(
    path: &Path,
    line: &str,
    sync_folder: impl Fn(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let mut file = open(path)?;
    if file.metadata()?.len() == 0 {
        // Before the first line: when this fails, the file stays empty, and the next attempt does it again.
        sync_folder(path)?;
    }
    let mut text = String::with_capacity(line.len() + 2);
    if !ends_a_line(&mut file)? {
        text.push('\n');
    }
    text.push_str(line);
    text.push('\n');
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn ends_a_line(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// A new file's name is stored with its folder.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::dead_letter::letter::tests::letter;

    /// A folder of this test's own, gone at its end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("kcl-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _gone = std::fs::remove_dir_all(&self.0);
        }
    }

    fn lines(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn letters_are_lines_and_a_torn_one_does_not_spoil_the_next() {
        let folder = Folder::new("file-sink");
        let path = folder.0.join("letters.jsonl");
        let sink = FileSink::open(&path).unwrap();
        sink.accept(letter(b"a")).await.unwrap();
        sink.accept(letter(b"b")).await.unwrap();
        assert_eq!(
            lines(&path),
            [letter(b"a").to_json(), letter(b"b").to_json()]
        );
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"torn").unwrap();
        sink.accept(letter(b"c")).await.unwrap();
        assert_eq!(
            lines(&path)[2..],
            ["{\"torn".to_owned(), letter(b"c").to_json()]
        );
        std::fs::rename(&path, folder.0.join("rotated")).unwrap();
        sink.accept(letter(b"d")).await.unwrap();
        assert_eq!(lines(&path), [letter(b"d").to_json()]);
    }

    #[test]
    fn a_new_file_takes_no_letter_before_its_name_is_stored() {
        let folder = Folder::new("file-sink-name");
        let path = folder.0.join("letters");
        let fails = |_: &Path| Err(io::Error::other("no"));
        assert!(append(&path, "a", fails).is_err());
        assert!(append(&path, "a", fails).is_err(), "asked for again");
        append(&path, "a", sync_folder).unwrap();
        append(&path, "b", fails).unwrap();
        assert_eq!(lines(&path), ["a", "b"]);
    }

    #[test]
    fn letters_that_wait_for_their_turn_take_no_threads() {
        let folder = Folder::new("file-sink-turns");
        let sink = FileSink::open(folder.0.join("letters")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        runtime.block_on(async {
            let _busy = sink.turn.lock().await;
            let accepting = sink.accept(letter(b"a"));
            assert!(accepting.now_or_never().is_none());
            // The only thread is free.
            let runtime = Runtime::production();
            let other = runtime.on_blocking_thread(async { 7 });
            assert_eq!(other.await, 7);
        });
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_written_is_an_error_with_its_name() {
        let folder = Folder::new("file-sink-refused");
        assert!(FileSink::open(folder.0.join("none/letters")).is_err());
        let path = folder.0.join("letters");
        let sink = FileSink::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        let error = sink.accept(letter(b"a")).await.unwrap_err();
        assert!(error.to_string().contains("letters"), "{error}");
    }
}
