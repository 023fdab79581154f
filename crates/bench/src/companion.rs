//! The model and the floor as processes of their own, so that their time is not the driver's.

use std::{io::Read, net::SocketAddr, path::Path, process::Stdio};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpListener,
    process::{Child, Command},
};

use crate::{process::Process, target::Target};

/// A process of this binary; it ends when dropped, or when the driver is gone.
#[derive(Debug)]
pub(crate) struct Companion {
    pub(crate) address: SocketAddr,
    child: Child,
}

impl Companion {
    pub(crate) async fn model() -> Result<Self> {
        Self::start(Command::new(std::env::current_exe()?).arg("model")).await
    }

    /// The floor, with its log in `directory`.
    pub(crate) async fn floor(model: &Self, directory: &Path) -> Result<Self> {
        Self::start(&mut Self::floor_command(model, directory)?).await
    }

    /// The floor that asks the model with the whole history.
    pub(crate) async fn floor_with_history(model: &Self, directory: &Path) -> Result<Self> {
        Self::start(Self::floor_command(model, directory)?.arg("--history")).await
    }

    fn floor_command(model: &Self, directory: &Path) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("floor").arg("--model").arg(model.address.to_string());
        command.arg("--log").arg(directory.join("floor.log"));
        Ok(command)
    }

    pub(crate) fn target(&self) -> Result<Target> {
        let pid = self.child.id().context("the companion has ended")?;
        Ok(Target { address: self.address, token: String::new(), process: Process(pid) })
    }

    async fn start(command: &mut Command) -> Result<Self> {
        let command = command.arg("--attached").stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().context("a companion has a stdout")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).await?;
        let address = line.trim().parse().with_context(|| format!("a companion said {line:?}, not its address"))?;
        Ok(Self { address, child })
    }
}

/// Listens, and says where in the first line of stdout.
pub(crate) async fn listen(port: u16) -> Result<TcpListener> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("{}", listener.local_addr()?);
    Ok(listener)
}

/// Ends when stdin does, if there is a driver at its other end; else never.
pub(crate) async fn driver_gone(attached: bool) {
    if !attached {
        return std::future::pending().await;
    }
    let (gone, wait) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0]);
        let _ = gone.send(());
    });
    let _ = wait.await;
}
