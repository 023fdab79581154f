//! The key of all vaults: 32 random bytes in a file that only its owner reads.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

const LENGTH: usize = 32;

/// The key.
#[derive(Clone)]
pub(crate) struct Key(Zeroizing<[u8; LENGTH]>);

impl Key {
    /// The key in this file, which is made if it is not there. Of two processes that make one, the first one's counts.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        match Self::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            read => return read,
        }
        let mut bytes = Zeroizing::new([0; LENGTH]);
        getrandom::fill(bytes.as_mut()).map_err(|error| io::Error::other(error.to_string()))?;
        let directory = path.parent().unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        // Under another name first: nobody sees half a key.
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        let staged = directory.join(format!(".key-{:016x}", u64::from_le_bytes(random)));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged)?;
        let written = file.write_all(bytes.as_ref()).and_then(|()| file.sync_all());
        let linked = written.and_then(|()| fs::hard_link(&staged, path));
        fs::remove_file(&staged)?;
        match linked {
            Ok(()) => File::open(directory)?.sync_all()?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        Self::read(path)
    }

    fn read(path: &Path) -> io::Result<Self> {
        let bytes = Zeroizing::new(fs::read(path)?);
        let bytes: [u8; LENGTH] = bytes.as_slice().try_into().map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidData, "the key file of the vaults does not hold 32 bytes")
        })?;
        Ok(Self(Zeroizing::new(bytes)))
    }

    pub(crate) fn bytes(&self) -> [u8; LENGTH] {
        *self.0
    }

    /// What a value is looked up by.
    pub(crate) fn index(&self, value: &str) -> [u8; 32] {
        // A key of any length will do.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.0.as_ref()) else { return [0; 32] };
        mac.update(b"index");
        mac.update(value.as_bytes());
        mac.finalize().into_bytes().into()
    }
}
