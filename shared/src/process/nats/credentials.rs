//! Where NATS is, and who this service is there: read from files again for each connection, so that credentials change
//! without a restart.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use async_nats::{Auth, AuthError, ServerAddr};
use clap::Args;
use nkeys::KeyPair;
use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

/// Where NATS is.
#[derive(Args, Clone, Debug)]
pub struct NatsConfig {
    /// NATS servers, comma separated; user and password may stand in the URL.
    #[arg(
        long,
        env,
        hide_env_values = true,
        value_name = "NATS_URL",
        default_value = "nats://127.0.0.1:4222"
    )]
    pub nats_url: String,

    /// File with NATS credentials (JWT and NKey seed). It is read again for each connection.
    #[arg(long, env, value_name = "NATS_CREDENTIALS")]
    pub nats_credentials: Option<PathBuf>,

    /// File with the password of the user in `NATS_URL`, instead of one there. It is read again for each connection.
    #[arg(long, env, value_name = "NATS_PASSWORD_FILE")]
    pub nats_password_file: Option<PathBuf>,
}

/// Who this service is.
pub(super) struct Credentials {
    file: Option<PathBuf>,
    user: Option<String>,
    password: Option<Zeroizing<String>>,
    password_file: Option<PathBuf>,
}

impl Credentials {
    /// Those of the settings and of the URLs.
    ///
    /// # Errors
    /// When something cannot be read.
    pub(super) fn new(config: &NatsConfig, servers: &[ServerAddr]) -> anyhow::Result<Self> {
        let (user, password) = user_and_password(servers)?.unzip();
        anyhow::ensure!(
            config.nats_password_file.is_none() || user.is_some(),
            "NATS_PASSWORD_FILE needs a user in NATS_URL"
        );
        let credentials = Self {
            file: config.nats_credentials.clone(),
            user,
            password: password.flatten().map(Zeroizing::new),
            password_file: config.nats_password_file.clone(),
        };
        credentials.read(b"")?;
        Ok(credentials)
    }

    /// What a connection whose server sent this nonce is to show.
    pub(super) fn answer(&self, nonce: &[u8]) -> Result<Auth, AuthError> {
        // The client logs it.
        self.read(nonce)
            .map_err(|error| AuthError::new(format!("{error:#}")))
    }

    fn read(&self, nonce: &[u8]) -> anyhow::Result<Auth> {
        let mut auth = Auth::new();
        auth.username.clone_from(&self.user);
        auth.password = self.password.as_ref().map(|password| password.to_string());
        if let Some(path) = &self.password_file {
            let text = read(path, "NATS_PASSWORD_FILE")?;
            let password = text.trim_end_matches(['\r', '\n']);
            anyhow::ensure!(
                !password.is_empty(),
                "NATS_PASSWORD_FILE: {} is empty",
                path.display()
            );
            auth.password = Some(password.to_owned());
        }
        if let Some(path) = &self.file {
            let text = read(path, "NATS_CREDENTIALS")?;
            let (jwt, seed) = jwt_and_seed(&text).context("NATS_CREDENTIALS is not a credentials file")?;
            let key = KeyPair::from_seed(seed).context("NATS_CREDENTIALS holds no seed")?;
            auth.signature = Some(key.sign(nonce).context("NATS_CREDENTIALS cannot sign")?);
            auth.jwt = Some(jwt.to_owned());
        }
        Ok(auth)
    }
}

fn read(path: &Path, variable: &str) -> anyhow::Result<Zeroizing<String>> {
    let text = std::fs::read_to_string(path).map(Zeroizing::new);
    text.with_context(|| format!("{variable} cannot be read: {}", path.display()))
}

/// The line within each of the two frames of a credentials file: the user's JWT, then the seed.
fn jwt_and_seed(text: &str) -> Option<(&str, &str)> {
    let is_frame = |line: &str| line.starts_with("---") && line.ends_with("---");
    let mut lines = text.lines().map(str::trim);
    let mut framed = || {
        lines.find(|line| is_frame(line))?;
        let value = lines.next().filter(|line| !line.is_empty() && !is_frame(line))?;
        lines.next().filter(|line| is_frame(line))?;
        Some(value)
    };
    Some((framed()?, framed()?))
}

/// The first user that stands in the URLs, with its password if there is one. The client itself ignores them.
fn user_and_password(servers: &[ServerAddr]) -> anyhow::Result<Option<(String, Option<String>)>> {
    let decode = |text: &str| {
        let text = percent_decode_str(text).decode_utf8();
        anyhow::Ok(
            text.context("NATS_URL has a user or a password that is not UTF-8")?
                .into_owned(),
        )
    };
    let found = servers
        .iter()
        .find_map(|server| Some((server.username()?, server.password())));
    found
        .map(|(user, password)| Ok((decode(user)?, password.map(decode).transpose()?)))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_are_taken_out_of_the_url() {
        let of = |urls: &[&str]| {
            let servers: Vec<_> = urls.iter().map(|url| url.parse().unwrap()).collect();
            user_and_password(&servers).map_err(|error| error.to_string())
        };
        let pair = |user: &str, password: &str| Ok(Some((user.to_owned(), Some(password.to_owned()))));
        assert_eq!(of(&["nats://one", "nats://two:4222"]), Ok(None));
        assert_eq!(of(&["nats://a:b@one", "nats://two"]), pair("a", "b"));
        assert_eq!(of(&["one", "nats://a:p%40ss%2F@two"]), pair("a", "p@ss/"));
        assert_eq!(of(&["nats://a@one"]), Ok(Some(("a".to_owned(), None))));
        assert!(of(&["nats://a:%FF@one"]).is_err());
    }

    #[test]
    fn each_connection_shows_what_the_files_hold_then() {
        let folder = std::env::temp_dir().join(format!("penstock-credentials-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (creds, password) = (folder.join("user.creds"), folder.join("password"));
        let write = |user: &KeyPair, jwt: &str| {
            let seed = user.seed().unwrap();
            let text = format!(
                "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
                 ************************* IMPORTANT *************************\nKeep the seed secret.\n\n\
                 -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
            );
            std::fs::write(&creds, text).unwrap();
        };
        let (one, other) = (KeyPair::new_user(), KeyPair::new_user());
        write(&one, "jwt.of.one");
        std::fs::write(&password, "first\n").unwrap();
        let config = NatsConfig {
            nats_url: "nats://a@one".to_owned(),
            nats_credentials: Some(creds.clone()),
            nats_password_file: Some(password.clone()),
        };
        let servers = [config.nats_url.parse().unwrap()];
        let credentials = Credentials::new(&config, &servers).unwrap();
        let check = |user: &KeyPair, jwt: &str, password: &str| {
            let auth = credentials.answer(b"nonce").unwrap();
            assert_eq!(auth.jwt.as_deref(), Some(jwt));
            assert_eq!(
                (auth.username.as_deref(), auth.password.as_deref()),
                (Some("a"), Some(password))
            );
            user.verify(b"nonce", &auth.signature.unwrap()).unwrap();
        };
        check(&one, "jwt.of.one", "first");
        write(&other, "jwt.of.other");
        std::fs::write(&password, "second").unwrap();
        check(&other, "jwt.of.other", "second");
        std::fs::write(&creds, "no credentials").unwrap();
        assert!(credentials.answer(b"nonce").is_err());
        assert!(Credentials::new(&config, &["nats://one".parse().unwrap()]).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
