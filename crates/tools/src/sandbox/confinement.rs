//! The level `landlock`: a ruleset and filters, built by the parent and entered by the child.
//!
//! To enter takes system calls only. It cannot be left, and every descendant is born in it.

use std::{fmt, io, thread};

use landlock::{RulesetCreated, RulesetStatus};
use seccompiler::{BpfProgram, apply_filter};
use stakpak_agent_core::{Sandbox, SandboxUnavailable};

use super::{
    landlock::{LEAST_ABI, WITH_SOCKET_PATHS, descriptor, missing, ruleset},
    roots::Roots,
    seccomp::{Sockets, filters},
    system_calls::{drop_capabilities, landlock_abi, set_no_new_privileges},
};

/// What the kernel has; proven, not only reported.
#[derive(Debug)]
pub(super) struct Support {
    abi: i32,
}

impl Support {
    /// Asks the kernel, and enters a confinement with a thread that does nothing else.
    pub(super) fn probe() -> Result<Self, SandboxUnavailable> {
        let abi = landlock_abi().map_err(|error| {
            let why = match error.raw_os_error() {
                Some(nix::libc::EOPNOTSUPP) => {
                    "it is switched off; add `landlock` to `lsm=` on the kernel's command line"
                }
                _ => "the kernel has none; use Linux 6.2 or later with CONFIG_SECURITY_LANDLOCK",
            };
            SandboxUnavailable::new(format!("no isolation is available: Landlock: {why} ({error})"))
        })?;
        if abi < LEAST_ABI {
            let message = format!(
                "no isolation is available: Landlock ABI {abi} is too old: {LEAST_ABI} is needed, of Linux 6.2 or later"
            );
            return Err(SandboxUnavailable::new(message));
        }
        let support = Self { abi };
        let nothing = Roots { read: Vec::new(), write: Vec::new(), devices: Vec::new() };
        let mut confinement = Confinement::new(&support, &nothing, &Sandbox::default())?;
        let entered = thread::Builder::new().name("sandbox-probe".to_owned()).spawn(move || confinement.enter());
        let entered = entered.and_then(|thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("a panic"))));
        entered.map_err(|error| SandboxUnavailable::new(format!("the kernel refuses to confine: {error}")))?;
        Ok(support)
    }
}

impl fmt::Display for Support {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Landlock ABI {} and seccomp", self.abi)?;
        let missing = missing(self.abi);
        if missing.is_empty() { Ok(()) } else { write!(f, "; without: {}", missing.join("; ")) }
    }
}

/// Ready to be entered, once.
pub(crate) struct Confinement {
    ruleset: Option<RulesetCreated>,
    filters: Vec<BpfProgram>,
}

impl fmt::Debug for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Confinement").finish_non_exhaustive()
    }
}

impl Confinement {
    pub(super) fn new(support: &Support, roots: &Roots, sandbox: &Sandbox) -> Result<Self, SandboxUnavailable> {
        let failed = |what: &str, error: &dyn fmt::Display| SandboxUnavailable::new(format!("{what}: {error}"));
        let ruleset = ruleset(support.abi, roots, sandbox.network)
            .map_err(|error| failed("the Landlock ruleset cannot be made", &error))?;
        if !descriptor(&ruleset) {
            return Err(SandboxUnavailable::new("the Landlock ruleset is empty"));
        }
        // With socket paths under Landlock's rules, a socket in the workspace is as good as a file there.
        let unix = sandbox.unix_sockets || (sandbox.network && support.abi >= WITH_SOCKET_PATHS);
        let filters = filters(Sockets { network: sandbox.network, unix })
            .map_err(|error| failed("the seccomp filters cannot be made", &error))?;
        Ok(Self { ruleset: Some(ruleset), filters })
    }

    /// Confines this thread, with what it starts, for good. For a child between fork and exec.
    ///
    /// # Errors
    /// What the kernel refused. The caller must end then.
    pub(crate) fn enter(&mut self) -> io::Result<()> {
        self.enter_for_files()?;
        self.filters.iter().try_for_each(|filter| apply_filter(filter).map_err(last_error))
    }

    /// As [`Self::enter`], for a thread of our own that only looks at files and changes them: without the filters.
    pub(crate) fn enter_for_files(&mut self) -> io::Result<()> {
        let refused = || io::Error::from_raw_os_error(nix::libc::EPERM);
        let ruleset = self.ruleset.take().ok_or_else(refused)?;
        set_no_new_privileges()?;
        drop_capabilities()?;
        let status = ruleset.restrict_self().map_err(last_error)?;
        if status.ruleset == RulesetStatus::FullyEnforced && status.no_new_privs { Ok(()) } else { Err(refused()) }
    }
}

/// The error of the system call that has just failed, without a look at (and without an allocation for) its wrapper.
fn last_error<E>(_: E) -> io::Error {
    io::Error::last_os_error()
}
