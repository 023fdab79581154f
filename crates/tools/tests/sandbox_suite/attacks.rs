//! What a confined process tries. Runs in it, as a child of the tools under test, and prints an outcome a line.

use std::{
    env, fs, io,
    net::{TcpListener, TcpStream, UdpSocket},
    os::{
        fd::AsRawFd,
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixStream},
    },
    path::PathBuf,
};

use nix::libc;

/// A name, and the attempt.
pub(crate) type Attack = (&'static str, fn() -> io::Result<()>);

/// Those that succeed on the host, also for an ordinary user.
pub(crate) const ON_FILES: &[Attack] = &[
    ("write outside", || fs::write(outside().join("new"), "x")),
    ("append outside", || fs::OpenOptions::new().append(true).open(outside().join("file")).map(drop)),
    ("truncate outside", || {
        fs::OpenOptions::new().write(true).open(outside().join("file")).and_then(|file| file.set_len(0))
    }),
    ("make a directory outside", || fs::create_dir(outside().join("directory"))),
    ("remove outside", || fs::remove_file(outside().join("doomed"))),
    ("write in /tmp", || tempfile::Builder::new().tempfile_in(outside()).map(drop)),
    ("read ~/.ssh", || read(home().join(".ssh/id_rsa"))),
    ("read ~/.stakpak", || read(home().join(".stakpak/config.toml"))),
    ("list the home", || fs::read_dir(home()).map(drop)),
    ("read by a link of its own", || {
        std::os::unix::fs::symlink(home().join(".ssh/id_rsa"), "link")?;
        read("link".into())
    }),
    ("write by a link that is there", || fs::write("way-out/by-link", "x")),
    ("hard link to the outside", || {
        fs::hard_link(home().join(".ssh/id_rsa"), "hard").and_then(|()| read("hard".into()))
    }),
    ("move from outside", || fs::rename(outside().join("moved"), "moved")),
    ("read by /proc/self/root", || {
        read(PathBuf::from(format!("/proc/self/root{}", home().join(".ssh/id_rsa").display())))
    }),
    ("read by /proc/self/cwd", || read("/proc/self/cwd/../home/.ssh/id_rsa".into())),
    ("read by the server's root", || {
        read(PathBuf::from(format!("/proc/{}/root{}", server(), home().join(".ssh/id_rsa").display())))
    }),
];

/// As those.
pub(crate) const ON_SOCKETS: &[Attack] = &[
    ("TCP", || TcpStream::connect(format!("127.0.0.1:{}", variable("PORT"))).map(drop)),
    ("listen", || TcpListener::bind("127.0.0.1:0").map(drop)),
    ("UDP", || UdpSocket::bind("127.0.0.1:0")?.send_to(b"x", format!("127.0.0.1:{}", variable("PORT"))).map(drop)),
    ("UNIX socket", || UnixStream::connect(outside().join("socket")).map(drop)),
    ("abstract socket", || UnixStream::connect_addr(&SocketAddr::from_abstract_name(variable("ABSTRACT"))?).map(drop)),
    ("netlink", || call(|| number(libc::SYS_socket, [16, 3, 0]))),
];

/// As those.
pub(crate) const ON_PROCESSES: &[Attack] = &[
    ("signal to the server", || call(|| number(libc::SYS_kill, [server(), 0, 0]))),
    ("the server's environment", || read(PathBuf::from(format!("/proc/{}/environ", server())))),
    ("the server's memory", || fs::File::open(format!("/proc/{}/mem", server())).map(drop)),
    ("the server's limits", || {
        let none = [0_u64; 2];
        call(|| syscall4(libc::SYS_prlimit64, server(), 7, 0, none.as_ptr() as i64))
    }),
];

/// Refused to an ordinary user on the host too, or by what the host happens to be.
pub(crate) const ON_THE_KERNEL: &[Attack] = &[
    ("ptrace", || call(|| syscall4(libc::SYS_ptrace, 0x4206, server(), 0, 0))),
    ("process_vm_readv", || call(|| syscall4(libc::SYS_process_vm_readv, server(), 0, 0, 0))),
    ("unshare", || call(|| number(libc::SYS_unshare, [i64::from(libc::CLONE_NEWUSER), 0, 0]))),
    ("unshare of mounts", || call(|| number(libc::SYS_unshare, [i64::from(libc::CLONE_NEWNS), 0, 0]))),
    ("setns", || {
        let file = fs::File::open("/proc/self/ns/mnt")?;
        call(|| number(libc::SYS_setns, [i64::from(file.as_raw_fd()), 0, 0]))
    }),
    ("clone of a namespace", || fork_with(libc::CLONE_NEWUSER)),
    ("io_uring", || {
        let parameters = [0_u8; 256];
        call(|| number(libc::SYS_io_uring_setup, [8, parameters.as_ptr() as i64, 0]))
    }),
    ("mount", || {
        call(|| {
            syscall4(libc::SYS_mount, c"none".as_ptr() as i64, c"/mnt".as_ptr() as i64, c"tmpfs".as_ptr() as i64, 0)
        })
    }),
    ("chroot", || call(|| number(libc::SYS_chroot, [c"/".as_ptr() as i64, 0, 0]))),
    ("bpf", || call(|| number(libc::SYS_bpf, [0, 0, 0]))),
    ("keyctl", || call(|| number(libc::SYS_keyctl, [0, -3, 0]))),
    ("open_by_handle_at", || call(|| number(libc::SYS_open_by_handle_at, [0, 0, 0]))),
    ("TIOCSTI", || {
        let letter = b'x';
        call(|| number(libc::SYS_ioctl, [0, 0x5412, &raw const letter as i64]))
    }),
    ("x32", || call(|| number(0x4000_0000 | libc::SYS_getpid, [0, 0, 0]))),
    ("clone3", || call(|| number(libc::SYS_clone3, [0, 0, 0]))),
];

/// What a program must still be able to do.
pub(crate) const NEEDED: &[Attack] = &[
    ("write in the workspace", || fs::write("mine", "x").and_then(|()| fs::rename("mine", "yours"))),
    ("write a temporary file", || fs::write(env::temp_dir().join("mine"), "x")),
    ("write at home", || fs::write(PathBuf::from(variable("HOME")).join(".cache"), "x")),
    ("read the system", || read("/etc/passwd".into())),
    ("read itself", || read("/proc/self/environ".into())),
    ("a pair of sockets", || UnixStream::pair().map(drop)),
    ("a thread", || std::thread::spawn(|| ()).join().map_err(|_| io::Error::other("panicked"))),
    ("a signal to itself", || call(|| number(libc::SYS_kill, [i64::from(std::process::id()), 0, 0]))),
    ("no capability", || {
        let status = fs::read_to_string("/proc/self/status")?;
        let holds = ["CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"];
        if holds.iter().all(|line| status.contains(line)) { Ok(()) } else { Err(io::Error::other(status)) }
    }),
];

/// All of them, an outcome a line.
pub(crate) fn run() {
    for (name, attack) in [ON_FILES, ON_SOCKETS, ON_PROCESSES, ON_THE_KERNEL, NEEDED].concat() {
        match attack() {
            Ok(()) => println!("outcome\t{name}\tdone"),
            Err(error) => println!("outcome\t{name}\t{error:?}"),
        }
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap()
}

fn outside() -> PathBuf {
    variable("OUTSIDE").into()
}

fn home() -> PathBuf {
    variable("USER_HOME").into()
}

fn server() -> i64 {
    variable("SERVER").parse().unwrap()
}

fn read(path: PathBuf) -> io::Result<()> {
    fs::read(path).map(drop)
}

fn call(call: impl FnOnce() -> i64) -> io::Result<()> {
    if call() < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn number(number: i64, [a, b, c]: [i64; 3]) -> i64 {
    syscall4(number, a, b, c, 0)
}

fn syscall4(number: i64, a: i64, b: i64, c: i64, d: i64) -> i64 {
    // SAFETY: pointers among the arguments live through the call; what it would do to this process is the test's purpose.
    unsafe { libc::syscall(number, a, b, c, d, 0) }
}

fn fork_with(flag: i32) -> io::Result<()> {
    match syscall4(libc::SYS_clone, i64::from(flag | libc::SIGCHLD), 0, 0, 0) {
        // SAFETY: the child has nothing to clean up.
        0 => unsafe { libc::_exit(0) },
        pid if pid < 0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
