//! A door between a program and a server: while it is shut, connections are cut and refused, as if
//! the server were away.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A TCP relay on a port of its own.
#[derive(Debug, Clone)]
pub struct Gate {
    pub address: SocketAddr,
    open: Arc<watch::Sender<bool>>,
}

impl Gate {
    /// An open gate to `target`.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it has an address");
        let (open, state) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mut state = state.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        () = pass(client, target), if *state.borrow() => {}
                        _ = state.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Self { address, open: Arc::new(open) }
    }

    /// Cuts what is connected and refuses what comes.
    pub fn shut(&self) {
        self.open.send_replace(false);
    }

    /// Lets connections through again.
    pub fn open(&self) {
        self.open.send_replace(true);
    }
}

async fn pass(mut client: TcpStream, target: SocketAddr) {
    if let Ok(mut server) = TcpStream::connect(target).await {
        // Either side may end it, in any way.
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}
