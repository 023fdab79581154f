//! Where there is no Landlock: nothing can be confined, and says so.

use std::{convert::Infallible, fmt, io};

use stakpak_agent_core::{Sandbox, SandboxUnavailable};

use super::roots::Roots;

/// There is none.
#[derive(Debug)]
pub(super) struct Support(Infallible);

impl Support {
    pub(super) fn probe() -> Result<Self, SandboxUnavailable> {
        Err(SandboxUnavailable::new("the level `landlock` needs Linux"))
    }
}

impl fmt::Display for Support {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {}
    }
}

/// There is none.
#[derive(Debug)]
pub(crate) struct Confinement(Infallible);

impl Confinement {
    pub(super) fn new(support: &Support, _: &Roots, _: &Sandbox) -> Result<Self, SandboxUnavailable> {
        match support.0 {}
    }

    pub(crate) fn enter(&mut self) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn enter_for_files(&mut self) -> io::Result<()> {
        match self.0 {}
    }
}
