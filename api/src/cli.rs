//! The command line. Exit codes as in sysexits.h: 64 for a mistake in the configuration, 69 when
//! something that is needed is not there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::app::{EX_USAGE, StartError};
use crate::commands::{call, import, new_server, seed, server};
use crate::config::secrets::SecretFiles;
use crate::config::{Config, Mistakes, Sources, env_example};
use crate::ops::{health_check, logs, metrics};
use crate::stdio_server::target;
use crate::stdio_server::target::Arguments;
use crate::{app, config, openapi, run};

/// A registry and gateway for MCP servers. Without a command it starts the gateway.
#[derive(Parser)]
#[command(name = "trunkline", version, about)]
struct Cli {
    /// Settings that differ from the defaults (TOML).
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Environment from a file of NAME=value lines; the process's own environment wins.
    #[arg(long, global = true, value_name = "FILE")]
    env_file: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Starts the gateway.
    Serve,
    /// Brings the database to this version, and stops.
    Migrate,
    /// Looks at the configuration.
    Config {
        #[command(subcommand)]
        what: ConfigCommand,
    },
    /// Prints the OpenAPI document.
    Openapi,
    /// Prints the list of Prometheus metrics.
    Metrics,
    /// Asks a running gateway for its health; exit code 0 when it answers.
    HealthCheck,
    /// An MCP server on standard input and output, for clients that start commands: a bridge to a running
    /// gateway (MCP_GATEWAY_URL, MCP_KEY, AGENT_ID), or, where none is, to one in this process.
    Stdio(Arguments),
    /// Registers the reference servers of the marketplace that are not there yet, and prints what each needs.
    /// Asks a running gateway (MCP_GATEWAY_URL, MCP_KEY); where none runs, works on the database of DATABASE_URL
    /// with a gateway in this process. They belong to the caller's tenant: `default`, unless MCP_KEY is another's.
    Seed(seed::Arguments),
    /// Changes the marketplace: of a running gateway (MCP_GATEWAY_URL, MCP_KEY), or, where none runs, in the
    /// database of DATABASE_URL.
    Registry {
        #[command(subcommand)]
        what: RegistryCommand,
    },
    /// Carries a slash command out, and prints the answer. Asks a running gateway (MCP_GATEWAY_URL, MCP_KEY); where
    /// none runs, one in this process.
    Call(call::Arguments),
    /// Runs a built-in server as an MCP server of its own on standard input and output.
    Server(server::Arguments),
    /// Writes the crate of a new MCP server into a directory of that name.
    NewServer(new_server::Arguments),
    /// Makes a new secret; the last one stays valid until the next rotation (jwt) or is replaced
    /// everywhere (master). The gateway must be stopped.
    Rotate {
        #[command(subcommand)]
        what: RotateCommand,
    },
    /// Runs a command under supervision; the gateway uses it for its children.
    #[command(hide = true)]
    ExecChild,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Prints the settings in force, with secrets hidden, or every mistake.
    Check,
    /// Prints `.env.example`.
    Env,
}

#[derive(Subcommand)]
enum RegistryCommand {
    /// Imports entries that belong to no tenant; versions that are there stay as they are.
    Import(import::Arguments),
}

#[derive(Subcommand)]
enum RotateCommand {
    /// The secret of HS256 tokens.
    Jwt,
    /// The key that seals secrets in the database.
    Master,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "exec-child") {
        return proxy::child::supervise(arguments);
    }
    match execute(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("trunkline: {}", error.sentence.trim_end());
            ExitCode::from(error.exit)
        }
    }
}

fn execute(cli: Cli) -> Result<ExitCode, StartError> {
    match cli.command {
        None | Some(Command::Serve) => {
            let (config, environment) = configuration(&cli.config, &cli.env_file)?;
            let _lines = logs::install(&config.log, logs::To::Stdout);
            let passed_on = passed_on(&config, &environment);
            run::run(config, passed_on)?;
        }
        Some(Command::Migrate) => {
            let (config, _) = configuration(&cli.config, &cli.env_file)?;
            with_database(&config, async |db, _| {
                db.migrate().await.map_err(|error| StartError::unavailable(error.detail()))
            })?;
            println!("the database is up to date");
        }
        Some(Command::Config { what: ConfigCommand::Check }) => {
            let (config, _) = configuration(&cli.config, &cli.env_file)?;
            let shown = toml::to_string_pretty(&config.without_secrets())
                .map_err(|error| StartError::usage(format!("the configuration cannot be shown: {error}")))?;
            print!("{shown}");
        }
        Some(Command::Config { what: ConfigCommand::Env }) => print!("{}", env_example()),
        Some(Command::Openapi) => print!("{}", openapi::text()),
        Some(Command::Metrics) => print!("{}", metrics::document()),
        Some(Command::HealthCheck) => {
            let (_, environment) = configuration(&cli.config, &cli.env_file)?;
            return Ok(health_check::check(&config::gateway_url(&environment)));
        }
        Some(Command::Stdio(arguments)) => {
            let (config, environment) = configuration(&cli.config, &cli.env_file)?;
            let _lines = logs::install(&config.log, logs::To::Stderr);
            let passed_on = passed_on(&config, &environment);
            target::run(arguments, &config::Client::read(&environment), config, passed_on)?;
        }
        Some(Command::Seed(arguments)) => {
            let (config, environment) = configuration(&cli.config, &cli.env_file)?;
            let _lines = logs::install(&config.log, logs::To::Stderr);
            let passed_on = passed_on(&config, &environment);
            return seed::run(&arguments, &config::Client::read(&environment), config, passed_on);
        }
        Some(Command::Registry { what: RegistryCommand::Import(arguments) }) => {
            let (config, environment) = configuration(&cli.config, &cli.env_file)?;
            let _lines = logs::install(&config.log, logs::To::Stderr);
            let passed_on = passed_on(&config, &environment);
            return import::run(&arguments, &config::Client::read(&environment), config, passed_on);
        }
        Some(Command::Call(arguments)) => {
            let (config, environment) = configuration(&cli.config, &cli.env_file)?;
            let _lines = logs::install(&config.log, logs::To::Stderr);
            let passed_on = passed_on(&config, &environment);
            return call::run(&arguments, &config::Client::read(&environment), config, passed_on);
        }
        Some(Command::Server(arguments)) => {
            let environment = environment(&cli.env_file)?;
            return server::run(&arguments, &environment);
        }
        Some(Command::NewServer(arguments)) => return new_server::run(&arguments),
        Some(Command::Rotate { what }) => {
            let (config, _) = configuration(&cli.config, &cli.env_file)?;
            // A running gateway would keep sealing under the key that is being replaced.
            let _alone = run::claim_data_dir(&config)?;
            rotate(&config, &what)?;
        }
        Some(Command::ExecChild) => return Ok(proxy::child::supervise(std::env::args_os().skip(2))),
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the settings in force, and the environment they were read from.
fn configuration(
    file: &Option<PathBuf>,
    env_file: &Option<PathBuf>,
) -> Result<(Config, BTreeMap<String, String>), StartError> {
    let environment = environment(env_file)?;
    let file = match file {
        Some(path) => Some((path.clone(), read_file(path, "--config")?)),
        None => None,
    };
    let config = config::load(Sources { file, environment: environment.clone() })
        .map_err(|mistakes: Mistakes| StartError { sentence: mistakes.to_string(), exit: EX_USAGE })?;
    Ok((config, environment))
}

fn read_file(path: &Path, option: &str) -> Result<String, StartError> {
    std::fs::read_to_string(path)
        .map_err(|error| StartError::usage(format!("{} ({option}) cannot be read: {error}", path.display())))
}

/// Returns the environment: of the process, before that of the file.
fn environment(env_file: &Option<PathBuf>) -> Result<BTreeMap<String, String>, StartError> {
    let mut environment = BTreeMap::new();
    if let Some(path) = env_file {
        for (number, line) in read_file(path, "--env-file")?.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, value) = line.split_once('=').ok_or_else(|| {
                StartError::usage(format!("{}:{}: NAME=value is wanted", path.display(), number + 1))
            })?;
            let value = value.trim();
            let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
            environment.insert(name.trim().to_owned(), unquoted.to_owned());
        }
    }
    environment.extend(config::process_environment());
    Ok(environment)
}

/// Returns the environment of child processes: only what the settings name.
fn passed_on(config: &Config, environment: &BTreeMap<String, String>) -> Vec<(String, String)> {
    proxy::pool::PASSED_ON
        .iter()
        .copied()
        .chain(config.children.env_passthrough.iter().map(String::as_str))
        .filter_map(|name| Some((name.to_owned(), environment.get(name)?.clone())))
        .collect()
}

fn with_database<T>(
    config: &Config,
    work: impl AsyncFnOnce(entity::Db, &SecretFiles) -> Result<T, StartError>,
) -> Result<T, StartError> {
    std::fs::create_dir_all(&config.server.data_dir).map_err(|error| {
        StartError::usage(format!(
            "{} (DATA_DIR) cannot be written: {error}",
            config.server.data_dir.display()
        ))
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| StartError::unavailable(format!("the runtime cannot start: {error}")))?;
    runtime.block_on(async {
        let secrets = SecretFiles::new(&config.server.data_dir);
        work(app::connect(config, &secrets).await?, &secrets).await
    })
}

fn rotate(config: &Config, what: &RotateCommand) -> Result<(), StartError> {
    let secrets = SecretFiles::new(&config.server.data_dir);
    match what {
        RotateCommand::Jwt if !config.auth.jwt_secret.is_empty() => Err(StartError::usage(
            "JWT_SECRET is set: put the present one into JWT_SECRET_PREVIOUS and a new one into JWT_SECRET, then restart",
        )),
        RotateCommand::Jwt => {
            secrets.rotate_jwt().map_err(StartError::usage)?;
            println!(
                "new tokens are signed with a new secret after a restart; the last secret is still accepted"
            );
            Ok(())
        }
        RotateCommand::Master => {
            let in_environment = !config.auth.master_key.is_empty();
            if !in_environment {
                secrets.rotate_master().map_err(StartError::usage)?;
            }
            let rows = with_database(config, async |db, secrets| {
                let seal = secrets.seal(&config.auth).map_err(StartError::usage)?;
                let failed = |error: entity::DbError| StartError::unavailable(error.detail());
                db.migrate().await.map_err(failed)?;
                let tenant = db.ensure_default_tenant().await.map_err(failed)?;
                db.reseal(&seal, &entity::Actor::gateway(tenant.id)).await.map_err(failed)
            })?;
            if in_environment {
                println!("{rows} rows are sealed under MASTER_KEY now; MASTER_KEY_PREVIOUS can be removed");
            } else {
                secrets.forget_previous_master().map_err(StartError::usage)?;
                println!("{rows} rows are sealed under a new master key now");
            }
            Ok(())
        }
    }
}
