//! A TCP proxy that can cut a line: it passes bytes on, drops all connections and takes no new ones, or
//! holds everything back without a word.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What becomes of the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Line {
    Passes,
    /// Connections are closed, and new ones at once.
    Drops,
    /// Connections stay open and nothing passes.
    Holds,
    /// The first connection on which the client sends this text is closed; then everything passes.
    DropsOnce(&'static str),
}

/// A proxy in front of one port of this machine; it ends with the trial's runtime.
pub struct Cut {
    pub port: u16,
    line: Arc<watch::Sender<Line>>,
}

impl Cut {
    pub async fn before(port: u16) -> Cut {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        let own = listener.local_addr().expect("a bound listener has an address").port();
        let line = Arc::new(watch::Sender::new(Line::Passes));
        tokio::spawn(serve(listener, SocketAddr::from(([127, 0, 0, 1], port)), Arc::clone(&line)));
        Cut { port: own, line }
    }

    pub fn set(&self, line: Line) {
        self.line.send_replace(line);
    }
}

async fn serve(listener: TcpListener, target: SocketAddr, line: Arc<watch::Sender<Line>>) {
    while let Ok((client, _)) = listener.accept().await {
        if *line.borrow() == Line::Drops {
            continue;
        }
        let mut dropped = line.subscribe();
        let (set, line) = (Arc::clone(&line), line.subscribe());
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(target).await else { return };
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::select! {
                () = pass(from_client, to_server, line.clone(), Some(&set)) => {}
                () = pass(from_server, to_client, line, None) => {}
                _ = dropped.wait_for(|line| *line == Line::Drops) => {}
            }
        });
    }
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut line: watch::Receiver<Line>,
    of_client: Option<&watch::Sender<Line>>,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let now = *line.borrow();
        if let (Line::DropsOnce(text), Some(set)) = (now, of_client)
            && buffer[..count].windows(text.len()).any(|part| part == text.as_bytes())
        {
            set.send_replace(Line::Passes);
            return;
        }
        let passes = |line: &Line| matches!(line, Line::Passes | Line::DropsOnce(_));
        if line.wait_for(passes).await.is_err() || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
    // The other side may still have something to say.
    tokio::time::sleep(Duration::from_millis(10)).await;
}
