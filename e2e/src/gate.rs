//! A door between a program and a server. While it is shut, connections are cut and refused, as if
//! the server were away; and it can cut one at the worst moment.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A TCP relay on a port of its own. It is gone, with what is connected, when this is dropped.
#[derive(Debug, Clone)]
pub struct Gate {
    pub address: SocketAddr,
    state: Arc<watch::Sender<State>>,
    traps: Traps,
}

#[derive(Debug, Clone, Default)]
struct Traps {
    set: Arc<Mutex<Option<Trap>>>,
    held: Arc<Mutex<Vec<Held>>>,
}

/// What happens to a connection on which a client says `words`.
#[derive(Debug, Clone, Copy)]
struct Trap {
    words: &'static [u8],
    does: Does,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    SwallowAnswer,
    HoldBack,
    /// Holds back the first, and cuts each that says the same later.
    HoldBackThenCut,
    Cut,
}

/// What a server has yet to hear, of a client that is gone.
#[derive(Debug)]
struct Held {
    server: TcpStream,
    said: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    target: SocketAddr,
    is_open: bool,
    is_silent: bool,
    /// What was connected before the last of them is cut.
    cuts: u64,
    /// What was connected before the last of them never hears anything again.
    silences: u64,
}

impl Gate {
    /// An open gate to `target`.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it has an address");
        let state = State { target, is_open: true, is_silent: false, cuts: 0, silences: 0 };
        let (state, traps) = (Arc::new(watch::Sender::new(state)), Traps::default());
        let gate = Self { address, state, traps };
        let (states, traps) = (gate.state.subscribe(), gate.traps.clone());
        let mut gone = states.clone();
        let accepting = async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connection(client, states.clone(), traps.clone()));
            }
        };
        tokio::spawn(async move {
            tokio::select! {
                () = accepting => {}
                // Nothing is waited for but the end of the gate.
                _ = gone.wait_for(|_| false) => {}
            }
        });
        gate
    }

    /// Cuts what is connected and refuses what comes.
    pub fn shut(&self) {
        self.state.send_modify(|state| {
            state.is_open = false;
            state.cuts += 1;
        });
    }

    /// Lets connections through again.
    pub fn open(&self) {
        self.state.send_modify(|state| state.is_open = true);
    }

    /// Leads new connections to `target` and cuts those that are there.
    pub fn cut_and_lead_to(&self, target: SocketAddr) {
        self.state.send_modify(|state| {
            state.target = target;
            state.cuts += 1;
        });
    }

    /// Leads new connections to `target`; those that are there stay where they are.
    pub fn lead_to(&self, target: SocketAddr) {
        self.state.send_modify(|state| state.target = target);
    }

    /// Passes nothing on any more and closes nothing, like a server that is gone without a word.
    pub fn fall_silent(&self) {
        self.state.send_modify(|state| {
            state.is_silent = true;
            state.silences += 1;
        });
    }

    /// Lets new connections through again. Those from before stay silent.
    pub fn speak(&self) {
        self.state.send_modify(|state| state.is_silent = false);
    }

    /// Cuts the next connection on which a client says `words`, after the server has carried them
    /// out and before the client hears of it.
    pub fn swallow_answer_to(&self, words: &'static [u8]) {
        self.set(words, Does::SwallowAnswer);
    }

    /// Cuts the next connection on which a client says `words`, and lets the server hear them only at
    /// [`Self::release`], as if they had lain in its buffer unread.
    pub fn hold_back(&self, words: &'static [u8]) {
        self.set(words, Does::HoldBack);
    }

    /// The same; and until then cuts each connection that says them again, unheard.
    pub fn hold_back_then_cut(&self, words: &'static [u8]) {
        self.set(words, Does::HoldBackThenCut);
    }

    fn set(&self, words: &'static [u8], does: Does) {
        *self.traps.set.lock().expect("no holder panics") = Some(Trap { words, does });
    }

    /// Lets servers hear what was held back, and waits until each has answered.
    pub async fn release(&self) {
        *self.traps.set.lock().expect("no holder panics") = None;
        let held = std::mem::take(&mut *self.traps.held.lock().expect("no holder panics"));
        assert!(!held.is_empty(), "something was held back");
        for Held { mut server, said } in held {
            server.write_all(&said).await.expect("the server listens");
            server.readable().await.expect("the server answers");
        }
    }

    /// Whether [`Self::swallow_answer_to`] still waits for its words.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        self.traps.set.lock().expect("no holder panics").is_some()
    }
}

/// One client's connection, to its end.
async fn connection(mut client: TcpStream, mut states: watch::Receiver<State>, traps: Traps) {
    let began = *states.borrow_and_update();
    if !began.is_open {
        return;
    }
    let mut silences = states.clone();
    let passing = async {
        let mut server = None;
        tokio::select! {
            biased;
            // An error is the end of the gate.
            heard = silences.wait_for(|now| now.is_silent || now.silences != began.silences) => {
                if heard.is_err() {
                    return;
                }
            }
            _ = pass(&mut client, &mut server, began.target, &traps) => return,
        }
        // Neither passes anything on nor closes.
        std::future::pending::<()>().await;
        drop(server);
    };
    tokio::select! {
        () = passing => {}
        _ = states.wait_for(|now| now.cuts != began.cuts) => {}
    }
}

/// Passes bytes both ways until either side ends.
async fn pass(
    client: &mut TcpStream,
    connected: &mut Option<TcpStream>,
    target: SocketAddr,
    traps: &Traps,
) -> std::io::Result<()> {
    let server = connected.insert(TcpStream::connect(target).await?);
    let (mut said, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        tokio::select! {
            count = client.read(&mut said) => {
                let said = &said[..count?];
                if said.is_empty() {
                    return Ok(());
                }
                match springs(&traps.set, said) {
                    None => server.write_all(said).await?,
                    Some(Does::SwallowAnswer) => {
                        server.write_all(said).await?;
                        server.readable().await?;
                        return Ok(());
                    }
                    Some(Does::HoldBack | Does::HoldBackThenCut) => {
                        let said = said.to_owned();
                        let held = connected.take().map(|server| Held { server, said });
                        traps.held.lock().expect("no holder panics").extend(held);
                        return Ok(());
                    }
                    Some(Does::Cut) => return Ok(()),
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

fn springs(trap: &Mutex<Option<Trap>>, said: &[u8]) -> Option<Does> {
    let mut trap = trap.lock().expect("no holder panics");
    let Trap { words, does } = (*trap)?;
    if !said.windows(words.len()).any(|part| part == words) {
        return None;
    }
    *trap = match does {
        Does::SwallowAnswer | Does::HoldBack => None,
        Does::HoldBackThenCut | Does::Cut => Some(Trap { words, does: Does::Cut }),
    };
    Some(does)
}
