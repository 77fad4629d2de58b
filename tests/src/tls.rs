//! A certificate authority of the trial's own, and a certificate for 127.0.0.1 that it signed.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::programs::find;
use crate::scratch::Scratch;
use crate::suite::not_run;

/// Files in PEM.
pub struct Certificates {
    pub authority: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
    _directory: Scratch,
}

impl Certificates {
    /// Ends the trial when `openssl` is not on this machine.
    pub fn make() -> Certificates {
        let openssl = find_openssl();
        let directory = Scratch::new("tls");
        let file = |name: &str| directory.join(name);
        let text = |name: &str| file(name).display().to_string();
        let run = |arguments: &[&str]| drop(self::openssl(&openssl, arguments, b""));
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let (ca, ca_key, request) = (text("ca.pem"), text("ca.key"), text("server.csr"));
        let (certificate, key, extensions) = (text("server.pem"), text("server.key"), text("extensions"));
        let mut authority = vec!["req", "-x509", "-days", "2", "-subj", "/CN=Trial authority"];
        authority.extend(["-keyout", &ca_key, "-out", &ca]);
        run(&[&authority[..], &curve].concat());
        let leaf = ["req", "-new", "-subj", "/CN=127.0.0.1", "-keyout", &key, "-out", &request];
        run(&[&leaf[..], &curve].concat());
        let names = "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n";
        std::fs::write(&extensions, names).expect("the trial's directory can be written");
        run(&[
            "x509",
            "-req",
            "-days",
            "2",
            "-in",
            &request,
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
            "-CAcreateserial",
            "-extfile",
            &extensions,
            "-out",
            &certificate,
        ]);
        Certificates {
            authority: ca.into(),
            certificate: certificate.into(),
            key: key.into(),
            _directory: directory,
        }
    }
}

/// The program, or the end of the trial.
pub fn find_openssl() -> PathBuf {
    find("openssl", &[]).unwrap_or_else(|| not_run("openssl is not on this machine"))
}

/// Runs it and gives what it wrote; a failure fails the trial.
pub fn openssl(program: &Path, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl can be started");
    child.stdin.take().expect("its input is a pipe").write_all(input).expect("openssl reads its input");
    let output = child.wait_with_output().expect("openssl ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?}: {said}");
    output.stdout
}
