//! A password as Postgres keeps it.

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

/// What Postgres keeps of a password for SCRAM-SHA-256 with one round of hashing. With the usual 4 096 a client repeats them
/// for each connection, and a stack opens about twenty: without optimisation each takes tens of milliseconds. Rounds slow down
/// whoever guesses passwords; the one of a stack has 128 random bits.
pub(crate) fn verifier(password: &str, salt: &[u8; 16]) -> String {
    let round = 1_u32.to_be_bytes();
    let salted = hash(password.as_bytes(), &[salt, &round]);
    let client_key = hash(&salted, &[b"Client Key"]);
    let server_key = hash(&salted, &[b"Server Key"]);
    format!(
        "SCRAM-SHA-256$1:{}${}:{}",
        BASE64.encode(salt),
        BASE64.encode(&Sha256::digest(client_key)),
        BASE64.encode(&server_key)
    )
}

fn hash(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With the password and the salt of RFC 7677, for which `hashlib` and `hmac` of Python find the same.
    #[test]
    fn a_verifier_has_the_keys_of_one_round() {
        let salt = BASE64.decode(b"W22ZaJ0SNY7soEsUEjb6gQ==").expect("it is base64");
        let salt: [u8; 16] = salt.try_into().expect("it has 16 bytes");
        assert_eq!(
            verifier("pencil", &salt),
            "SCRAM-SHA-256$1:W22ZaJ0SNY7soEsUEjb6gQ==$bzcn5wYzlcMpEXczzDM1iuyLhni5BVbqsm82vjMHWXI=:\
             fg/vS0Y425LcbLGWSqdzrFlRn9451QblzgpwLQYoXCI="
        );
    }
}
