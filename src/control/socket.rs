//! `control.sock`: one JSON object a line in, one out, for the owner of the pool alone.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

use super::command::{self, Answer};
use super::pool::Pool;

/// The longest line that is read, in bytes without its newline; every command fits many times.
pub(super) const LINE_MAX: usize = 64 * 1_024;

/// Connections at a time: a few people and their scripts.
pub(super) const CONNECTIONS_MAX: usize = 16;

/// How long a connection may take for the next line, or to take an answer.
const IDLE: Duration = Duration::from_secs(30);

/// How long accepting rests after an error such as running out of file descriptors, so that it does not spin.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// The owner may read and write, which is what connecting needs; nobody else may do anything.
const MODE: u32 = 0o600;

/// The socket, and its file for as long as it is served.
pub(super) struct ControlSocket {
    listener: StdListener,
    file: SocketFile,
}

/// Removes the file when dropped.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may be gone with its folder; a stale one would be replaced at the next start.
        let _ = fs::remove_file(&self.0);
    }
}

impl ControlSocket {
    /// Binds to `path`, in place of a socket that a pool left there.
    ///
    /// # Errors
    /// The system's own, with the path: most often it is above the 107 bytes that a socket's path may have, or
    /// something other than a socket stands there.
    pub fn bind(path: &Path) -> io::Result<Self> {
        bind(path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }

    /// Serves for as long as the runtime does. `drain` is notified when the command has been answered.
    pub async fn serve(self, pool: Arc<Pool>, drain: Arc<Notify>) {
        let Self { listener, file: _file } = self;
        let listener = match UnixListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "control.sock cannot be served"),
        };
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            match listener.accept().await {
                Ok((stream, _)) => match room.clone().try_acquire_owned() {
                    Ok(place) => {
                        let (pool, drain) = (pool.clone(), drain.clone());
                        tokio::spawn(async move {
                            converse(stream, &pool, &drain).await;
                            drop(place);
                        });
                    }
                    Err(_) => turn_away(&stream),
                },
                Err(error) => {
                    tracing::warn!(%error, "cannot accept on control.sock; trying again in {ACCEPT_REST:?}");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
    }
}

fn bind(path: &Path) -> io::Result<ControlSocket> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::other("not a socket; move it away, the pool needs the name")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile(path.into());
    // Before it listens, so that nobody else can connect at any moment.
    fs::set_permissions(path, Permissions::from_mode(MODE))?;
    socket.set_nonblocking(true)?;
    socket.listen(i32::try_from(CONNECTIONS_MAX).unwrap_or(i32::MAX))?;
    Ok(ControlSocket {
        listener: socket.into(),
        file,
    })
}

fn turn_away(stream: &UnixStream) {
    let answer = Answer::refused(format!("{CONNECTIONS_MAX} connections are open already; close one"));
    // A fresh socket has room for a line; where it has not, closing says as much.
    let _ = stream.try_write(&answer.line());
}

/// Answers line by line until the peer closes, idles, or sends a line that is too long.
async fn converse(stream: UnixStream, pool: &Arc<Pool>, drain: &Notify) {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut line = Vec::new();
    while let Ok(Ok(found)) = timeout(IDLE, read_line(&mut read, &mut line)).await {
        let (answer, next) = match found {
            Line::End => return,
            Line::TooLong => {
                // Where the next command begins is not known any more.
                let answer = Answer::refused(format!("a line is longer than {LINE_MAX} bytes"));
                (answer, command::Next::Close)
            }
            Line::Whole => command::obey(&line, pool).await,
        };
        let answered = timeout(IDLE, write.write_all(&answer.line())).await;
        if next == command::Next::Drain {
            drain.notify_one();
        }
        if next == command::Next::Close || !matches!(answered, Ok(Ok(()))) {
            return;
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Line {
    /// Without its newline; the last one needs none.
    Whole,
    TooLong,
    End,
}

async fn read_line(read: &mut (impl AsyncBufReadExt + AsyncRead + Unpin), line: &mut Vec<u8>) -> io::Result<Line> {
    line.clear();
    let most = LINE_MAX as u64 + 1;
    if read.take(most).read_until(b'\n', line).await? == 0 {
        return Ok(Line::End);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(if line.len() > LINE_MAX {
        Line::TooLong
    } else {
        Line::Whole
    })
}
