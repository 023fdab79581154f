//! The few system calls for which no crate has a call that neither allocates nor locks.
//!
//! Safe to use between fork and exec.

use std::{io, ptr};

use nix::libc;

/// The version of Landlock that the kernel has.
pub(super) fn landlock_abi() -> io::Result<i32> {
    const VERSION: u32 = 1;
    #[expect(unsafe_code, reason = "the landlock crate keeps the version that it finds to itself")]
    // SAFETY: with this flag the call takes no attributes and answers with a number.
    let abi = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, ptr::null::<u8>(), 0_usize, VERSION) };
    if abi < 0 { Err(io::Error::last_os_error()) } else { Ok(i32::try_from(abi).unwrap_or(i32::MAX)) }
}

/// Gives up every capability of this thread for good. Without any, root is as good as a user.
pub(super) fn drop_capabilities() -> io::Result<()> {
    // Only root may narrow what an exec can give back. Where it may not, `no_new_privs` alone sees to that.
    for capability in 0..64_u64 {
        if prctl(libc::PR_CAPBSET_DROP, capability).is_err() {
            break;
        }
    }
    match prctl(libc::PR_CAP_AMBIENT, u64::from(libc::PR_CAP_AMBIENT_CLEAR_ALL.unsigned_abs())) {
        Err(error) if error.raw_os_error() != Some(libc::EINVAL) => return Err(error),
        _ => {}
    }
    set_no_capabilities()
}

/// What an exec as root, or of a file with capabilities, does not bring back.
pub(super) fn set_no_new_privileges() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)
}

fn prctl(option: i32, argument: u64) -> io::Result<()> {
    #[expect(unsafe_code, reason = "nix has no wrapper for these options")]
    // SAFETY: these options take numbers only.
    let result = unsafe { libc::prctl(option, argument, 0_u64, 0_u64, 0_u64) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `capset(2)`, version 3.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn set_no_capabilities() -> io::Result<()> {
    let header = Header { version: 0x2008_0522, pid: 0 };
    let sets = [Sets::default(); 2];
    #[expect(unsafe_code, reason = "there is no wrapper that does not allocate")]
    // SAFETY: both structures live through the call and have the form that this version asks for.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
