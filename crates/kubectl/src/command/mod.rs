//! `skiff kubectl`, and a link named `kubectl`: reads the command line and runs the command.

mod wrong;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand};

use self::wrong::in_upstreams_words;
use crate::cmd;
use crate::error::Result;
use crate::flags::Globals;
use crate::session::Session;
use crate::words::{called, commands_first, first_plain, plain_switches, switches};

/// Controls a Kubernetes cluster.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    /// A kubectl command with its flags
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<OsString>,
}

#[derive(Debug, Parser)]
#[command(
    name = "kubectl",
    about = "kubectl controls the Kubernetes cluster manager",
    disable_help_subcommand = true,
    args_override_self = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    // In upstream's order, which is that of its suggestions.
    Create(Box<cmd::create::Args>),
    Expose(cmd::expose::Args),
    Run(cmd::run::Args),
    Set(cmd::set::Args),
    Explain(cmd::explain::Args),
    Get(cmd::get::Args),
    Edit(cmd::edit::Args),
    Delete(cmd::delete::Args),
    Rollout(cmd::rollout::Args),
    Scale(cmd::scale::Args),
    Autoscale(cmd::autoscale::Args),
    Certificate(cmd::certificate::Args),
    ClusterInfo(cmd::info::ClusterInfo),
    Top(cmd::top::Args),
    /// Mark node as unschedulable
    Cordon(cmd::nodes::Cordon),
    /// Mark node as schedulable
    Uncordon(cmd::nodes::Cordon),
    Drain(cmd::drain::Args),
    Taint(cmd::nodes::Taint),
    Describe(cmd::describe::Args),
    #[command(alias = "log")]
    Logs(cmd::logs::Args),
    Attach(cmd::exec::Attach),
    Exec(cmd::exec::Exec),
    PortForward(cmd::port_forward::Args),
    Proxy(Box<cmd::proxy::Args>),
    Cp(cmd::cp::Args),
    Auth(cmd::auth::Args),
    Debug(Box<cmd::debug::Args>),
    Events(cmd::events::Args),
    Diff(cmd::diff::Args),
    Apply(Box<cmd::apply::Args>),
    Patch(cmd::patch::Args),
    Replace(Box<cmd::replace::Args>),
    Wait(cmd::wait::Args),
    Kustomize(cmd::kustomize::Args),
    /// Update the labels on a resource
    Label(cmd::label::Args),
    /// Update the annotations on a resource
    Annotate(cmd::label::Args),
    Completion(cmd::info::Completion),
    ApiResources(cmd::info::Resources),
    ApiVersions(cmd::info::Versions),
    Config(cmd::config::Args),
    Kuberc(cmd::kuberc::Args),
    Plugin(cmd::plugin::Args),
    Version(cmd::info::Version),
    /// Print the list of flags inherited by all commands
    #[command(hide = true)]
    Options,
    /// Help about any command
    #[command(hide = true)]
    Help(Help),
}

#[derive(Debug, clap::Args)]
struct Help {
    words: Vec<String>,
}

/// The commands with their flags. As upstream has it those of every command stand under `options` alone, and what follows a flag that
/// takes a value is its value, whatever it looks like.
pub fn spec() -> clap::Command {
    fn with_values(command: clap::Command) -> clap::Command {
        let takes = |arg: &clap::Arg| arg.get_action().takes_values() && !arg.is_positional();
        command
            .mut_args(|arg| match takes(&arg) {
                true => arg.allow_hyphen_values(true),
                false => arg,
            })
            .mut_subcommands(with_values)
    }
    const SEE: &str = "Use \"kubectl options\" for a list of global command-line options (applies to all commands).";
    fn with_end(command: clap::Command) -> clap::Command {
        command.after_help(SEE).mut_subcommands(with_end)
    }
    let hidden = with_values(Cli::command()).mut_args(|arg| match arg.is_global_set() {
        true => arg.hide(true),
        false => arg,
    });
    with_end(hidden)
}

/// `options`: the flags of every command.
fn options() -> String {
    let spec = Cli::command();
    let flag = |arg: &clap::Arg| {
        let short = arg.get_short().map(|letter| format!("-{letter}, ")).unwrap_or_default();
        let value = match arg.get_action() {
            ArgAction::SetTrue => "false",
            ArgAction::Append => "[]",
            _ => "''",
        };
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        Some(format!("    {short}--{}={value}:\n\t{help}\n", arg.get_long()?))
    };
    let mut flags: Vec<&clap::Arg> = spec
        .get_arguments()
        .filter(|arg| arg.is_global_set() && !arg.is_hide_set())
        .collect();
    flags.sort_by_key(|arg| arg.get_long());
    let all: Vec<String> = flags.into_iter().filter_map(flag).collect();
    format!(
        "The following options can be passed to any command:\n\n{}",
        all.join("\n")
    )
}

/// `help`: of the command that the words name as far as they do.
fn help(words: &[String]) -> Result<()> {
    let mut spec = spec();
    spec.build();
    let known = words.first().is_none_or(|word| spec.find_subcommand(word).is_some());
    if !known {
        let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
        eprintln!("Unknown help topic [{}]", words.join(" "));
        eprint!("{}", spec.render_help());
        return Ok(());
    }
    let mut at = &spec;
    for word in words {
        let Some(found) = at.find_subcommand(word) else {
            break;
        };
        at = found;
    }
    print!("{}", at.clone().render_help());
    Ok(())
}

/// Prints the help of a command such as `kubectl config set`, before its wrong use is told.
pub fn print_help(command: &str) {
    let mut spec = spec();
    spec.build();
    let mut at = &spec;
    for word in command.split(' ').skip(1) {
        at = at.find_subcommand(word).unwrap_or(at);
    }
    print!("{}", at.clone().render_help());
}

/// Runs one command on a runtime of its own.
pub fn main(args: Args) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run(args));
    // A thread that reads the terminal cannot be stopped, and need not.
    runtime.shutdown_background();
    code
}

/// Runs one command to its end.
pub async fn run(args: Args) -> ExitCode {
    let mut words = vec![OsString::from("kubectl")];
    words.extend(args.words);
    let words = match crate::kuberc::apply(&spec(), words) {
        Ok(words) => words,
        Err(error) => {
            eprintln!("{}", error.report().unwrap_or_default());
            return ExitCode::FAILURE;
        }
    };
    if let Some(code) = plugin(&words[1..]) {
        return code;
    }
    let cli = match parse(words) {
        Ok(parsed) => parsed,
        Err(code) => return code,
    };
    let (mut cli, command) = cli;
    if command.starts_with("kubectl create") || command == "kubectl set subject" {
        // There it is a subject of a binding.
        cli.globals.user = None;
    }
    if command == "kubectl debug" {
        // There it is the profile of a container.
        cli.globals.profile.clear();
    }
    let refused = cli.globals.refuse_profile();
    let session = Session::new(cli.globals, command);
    let done = match refused {
        Ok(()) => dispatch(&session, &cli.command).await,
        Err(error) => Err(error),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(text) = error.report() {
                eprintln!("{text}");
            }
            ExitCode::from(error.code())
        }
    }
}

/// Becomes the plug-in that the words name, where they name no command; comes back where there is none, with a code where it cannot be run.
fn plugin(words: &[OsString]) -> Option<ExitCode> {
    let first = words.first()?.to_str()?;
    let spec = Cli::command();
    // completion asks under these names
    if matches!(first, "__complete" | "__completeNoDesc") {
        return None;
    }
    // whoever extends `create` names two words
    let least = match spec.find_subcommand(first) {
        None => 1,
        Some(found) if first == "create" => {
            let next = words.get(1)?.to_str().filter(|next| !next.starts_with('-'))?;
            if found.find_subcommand(next).is_some() {
                return None;
            }
            2
        }
        Some(_) => return None,
    };
    if first.starts_with('-') {
        // flags before what is no command: a plug-in has its name first
        let plain: Vec<&str> = words.iter().map(|word| word.to_str().unwrap_or_default()).collect();
        let place = first_plain(&switches(&[&spec]), &plain)?;
        if spec.find_subcommand(plain[place]).is_some() {
            return None;
        }
        eprintln!("Error: flags cannot be placed before plugin name: {first}");
        return Some(ExitCode::FAILURE);
    }
    let error = cmd::plugin::become_plugin(words, least).err()?;
    eprintln!("{}", error.report().unwrap_or_default());
    Some(ExitCode::from(error.code()))
}

/// `kubectl get` for `get`: the command that words name as far as they do.
fn command_of(words: &[&str]) -> Option<String> {
    let spec = Cli::command();
    let found = spec.find_subcommand(words.first()?)?;
    let deeper = words.get(1).and_then(|word| found.find_subcommand(word));
    let deeper = deeper
        .map(|command| format!(" {}", command.get_name()))
        .unwrap_or_default();
    Some(format!("kubectl {}{deeper}", found.get_name()))
}

async fn dispatch(session: &Session, command: &Command) -> Result<()> {
    match command {
        Command::Get(args) => cmd::get::run(session, args).await,
        Command::Apply(args) => cmd::apply::run(session, args).await,
        Command::Create(args) => cmd::create::run(session, args).await,
        Command::Delete(args) => cmd::delete::run(session, args).await,
        Command::Describe(args) => cmd::describe::run(session, args).await,
        Command::Logs(args) => cmd::logs::run(session, args).await,
        Command::Exec(args) => cmd::exec::exec(session, args).await,
        Command::Cp(args) => cmd::cp::run(session, args).await,
        Command::PortForward(args) => cmd::port_forward::run(session, args).await,
        Command::Label(args) => cmd::label::run(session, args, cmd::label::What::Label).await,
        Command::Annotate(args) => cmd::label::run(session, args, cmd::label::What::Annotation).await,
        Command::Autoscale(args) => cmd::autoscale::run(session, args).await,
        Command::Certificate(args) => cmd::certificate::run(session, args).await,
        Command::Events(args) => cmd::events::run(session, args).await,
        Command::Scale(args) => cmd::scale::run(session, args).await,
        Command::Patch(args) => cmd::patch::run(session, args).await,
        Command::Kustomize(args) => cmd::kustomize::run(session, args),
        Command::Wait(args) => cmd::wait::run(session, args).await,
        Command::Set(args) => cmd::set::run(session, args).await,
        Command::Config(args) => cmd::config::run(session, args),
        Command::Kuberc(args) => cmd::kuberc::run(session, args),
        Command::Options => session.println(&options()),
        Command::Help(args) => help(&args.words),
        Command::Plugin(args) => cmd::plugin::run(session, args, command_of),
        Command::Proxy(args) => cmd::proxy::run(session, args).await,
        Command::Debug(args) => cmd::debug::run(session, args).await,
        Command::Diff(args) => cmd::diff::run(session, args).await,
        Command::Explain(args) => cmd::explain::run(session, args).await,
        Command::Replace(args) => cmd::replace::run(session, args).await,
        Command::Expose(args) => cmd::expose::run(session, args).await,
        Command::Run(args) => cmd::run::run(session, args).await,
        Command::Drain(args) => cmd::drain::run(session, args).await,
        Command::Edit(args) => cmd::edit::run(session, args).await,
        Command::Auth(args) => cmd::auth::run(session, args).await,
        Command::ApiResources(args) => cmd::info::resources(session, args).await,
        Command::ApiVersions(args) => cmd::info::versions(session, args).await,
        Command::Version(args) => cmd::info::version(session, args).await,
        Command::ClusterInfo(args) => cmd::info::cluster_info(session, args).await,
        Command::Top(args) => cmd::top::run(session, args).await,
        Command::Completion(args) => cmd::info::completion(session, args),
        Command::Cordon(args) => cmd::nodes::cordon(session, args, true).await,
        Command::Uncordon(args) => cmd::nodes::cordon(session, args, false).await,
        Command::Taint(args) => cmd::nodes::taint(session, args).await,
        Command::Rollout(args) => cmd::rollout::run(session, args).await,
        Command::Attach(args) => cmd::exec::attach(session, args).await,
    }
}

/// The command line, and how the command is called in messages.
fn parse(words: Vec<OsString>) -> std::result::Result<(Cli, String), ExitCode> {
    let spec = spec();
    let words = commands_first(&spec, plain_switches(&spec, words));
    let called = called(&spec, &words);
    let parsed = spec
        .clone()
        .try_get_matches_from(&words)
        .and_then(|m| Cli::from_arg_matches(&m));
    match parsed {
        Ok(cli) => Ok((cli, called)),
        Err(error) => {
            let help = matches!(
                error.kind(),
                ErrorKind::DisplayHelp
                    | ErrorKind::DisplayVersion
                    | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            );
            if help {
                // A group of commands alone is an error, but for one; the program alone is not.
                if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
                    && !matches!(called.as_str(), "kubectl" | "kubectl certificate")
                {
                    eprint!("{}", error.render());
                    return Err(ExitCode::FAILURE);
                }
                print!("{}", error.render());
                return Err(ExitCode::SUCCESS);
            }
            if called == "kubectl certificate" && error.kind() == ErrorKind::InvalidSubcommand {
                // this group shows its help whatever follows
                print_help(&called);
                return Err(ExitCode::SUCCESS);
            }
            eprintln!("{}", in_upstreams_words(&error, &spec, &words, &called));
            Err(ExitCode::FAILURE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(line: &str) -> String {
        let spec = spec();
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let called = called(&spec, &words);
        let words = plain_switches(&Cli::command(), words);
        let error = spec.clone().try_get_matches_from(&words).unwrap_err();
        in_upstreams_words(&error, &spec, &words, &called)
    }

    #[test]
    fn the_specification_of_flags_is_sound() {
        spec().debug_assert();
    }

    #[test]
    fn wrong_command_lines_are_told_as_upstream_tells_them() {
        assert_eq!(
            error_of("kubectl get --foo"),
            "error: unknown flag: --foo\nSee 'kubectl get --help' for usage."
        );
        assert_eq!(
            error_of("kubectl config view x"),
            "error: unexpected arguments: [x]\nSee 'kubectl config view -h' for help and examples"
        );
        let bad = |flag: &str, value: &str, why: &str| {
            format!(
                "error: invalid argument \"{value}\" for \"{flag}\" flag: strconv.{why}: parsing \"{value}\": invalid syntax\n"
            )
        };
        let told = error_of("kubectl delete pods --grace-period=x");
        assert!(told.starts_with(&bad("--grace-period", "x", "ParseInt")), "{told}");
        let told = error_of("kubectl delete pods --wait=y");
        assert!(told.starts_with(&bad("--wait", "y", "ParseBool")), "{told}");
        assert!(error_of("kubectl foo").starts_with("error: unknown command \"foo\" for \"kubectl\""));
        assert_eq!(
            error_of("kubectl get pods -o"),
            "error: flag needs an argument: 'o' in -o\nSee 'kubectl get --help' for usage."
        );
    }

    /// `Find` of cobra, and `DefaultSubCommandRun`.
    #[test]
    fn a_group_of_commands_tells_of_its_flags_and_then_of_all_words() {
        let see = "\nSee 'kubectl rollout -h' for help and examples";
        assert_eq!(
            error_of("kubectl rollout rollout undo"),
            format!("error: unknown command \"rollout undo\"{see}")
        );
        assert_eq!(
            error_of("kubectl rollout deploy/web --dry-run=client"),
            "error: unknown flag: --dry-run\nSee 'kubectl rollout --help' for usage."
        );
        assert_eq!(
            error_of("kubectl set set resources -f a.yaml"),
            "error: unknown shorthand flag: 'f' in -f\nSee 'kubectl set --help' for usage."
        );
        assert_eq!(
            error_of("kubectl create create create -f a.yaml"),
            "error: Unexpected args: [create create]\nSee 'kubectl create -h' for help and examples"
        );
    }

    #[test]
    fn what_follows_a_flag_with_a_value_is_its_value() {
        let found = |line: &str| spec().try_get_matches_from(line.split(' '));
        assert!(found("kubectl get pods -o -o").is_ok());
        assert!(found("kubectl apply -f --prune").is_ok());
        assert!(found("kubectl get pods -o").is_err());
    }

    #[test]
    fn flags_of_every_command_stand_under_options_alone() {
        let mut spec = spec();
        spec.build();
        let get = spec.find_subcommand_mut("get").unwrap().render_help().to_string();
        assert!(!get.contains("--kubeconfig") && get.contains("--selector"), "{get}");
        let all = options();
        assert!(all.contains("--kubeconfig") && all.contains("-n, --namespace"), "{all}");
    }
}
