//! A door between a program and a server. While it is shut, connections are cut and refused, as if
//! the server were away; and it can cut one at the worst moment.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A TCP relay on a port of its own.
#[derive(Debug, Clone)]
pub struct Gate {
    pub address: SocketAddr,
    open: Arc<watch::Sender<bool>>,
    trap: Arc<Mutex<Option<&'static [u8]>>>,
}

impl Gate {
    /// An open gate to `target`.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it has an address");
        let (open, state) = watch::channel(true);
        let gate = Self { address, open: Arc::new(open), trap: Arc::default() };
        let trap = Arc::clone(&gate.trap);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (mut state, trap) = (state.clone(), Arc::clone(&trap));
                tokio::spawn(async move {
                    tokio::select! {
                        _ = pass(client, target, &trap), if *state.borrow() => {}
                        _ = state.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        gate
    }

    /// Cuts what is connected and refuses what comes.
    pub fn shut(&self) {
        self.open.send_replace(false);
    }

    /// Lets connections through again.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Cuts the next connection on which a client says `words`, after the server has carried them
    /// out and before the client hears of it.
    pub fn swallow_answer_to(&self, words: &'static [u8]) {
        *self.trap.lock().expect("no holder panics") = Some(words);
    }

    /// Whether [`Self::swallow_answer_to`] still waits for its words.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        self.trap.lock().expect("no holder panics").is_some()
    }
}

/// Passes bytes both ways until either side ends.
async fn pass(
    mut client: TcpStream,
    target: SocketAddr,
    trap: &Mutex<Option<&'static [u8]>>,
) -> std::io::Result<()> {
    let mut server = TcpStream::connect(target).await?;
    let (mut said, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        tokio::select! {
            count = client.read(&mut said) => {
                let said = &said[..count?];
                if said.is_empty() {
                    return Ok(());
                }
                server.write_all(said).await?;
                if springs(trap, said) {
                    server.readable().await?;
                    return Ok(());
                }
            }
            count = server.read(&mut answered) => {
                let answered = &answered[..count?];
                if answered.is_empty() {
                    return Ok(());
                }
                client.write_all(answered).await?;
            }
        }
    }
}

fn springs(trap: &Mutex<Option<&'static [u8]>>, said: &[u8]) -> bool {
    let mut trap = trap.lock().expect("no holder panics");
    let heard = trap.is_some_and(|words| said.windows(words.len()).any(|part| part == words));
    if heard {
        *trap = None;
    }
    heard
}
