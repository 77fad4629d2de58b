//! The tools of the server: names, descriptions and effects.

use std::sync::LazyLock;

use framework::{Effect, Tools};

use super::Filesystem;

/// Tools that change nothing.
pub const READING: [&str; 4] = ["read_file", "list_directory", "get_file_info", "search_files"];

pub static TOOLS: LazyLock<Tools<Filesystem>> = LazyLock::new(|| {
    Tools::new()
        .add(
            "read_file",
            "Read a file",
            "Reads a text file, or some of its lines with `offset` and `limit`. For binary files ask for \
             `encoding` `base64`, where positions are bytes.",
            Effect::Read,
            |server: &Filesystem, context, asked| Box::pin(server.read_file(context, asked)),
        )
        .add(
            "write_file",
            "Write a file",
            "Creates a file or replaces all its contents at once. Pass the etag of the last `read_file` as \
             `if_match`, so that nobody else's change is lost.",
            Effect::Replace,
            |server, context, asked| Box::pin(server.write_file(context, asked)),
        )
        .add(
            "list_directory",
            "List a directory",
            "Lists files, directories and links with sizes and times, in pages. Without a path it shows the \
             roots, whose names all paths begin with.",
            Effect::Read,
            |server, context, asked| Box::pin(server.list_directory(context, asked)),
        )
        .add(
            "create_directory",
            "Create a directory",
            "Creates a directory and the missing ones above it. One that is there is left as it is.",
            Effect::Add,
            |server, context, asked| Box::pin(server.create_directory(context, asked)),
        )
        .add(
            "get_file_info",
            "Describe a file",
            "Returns kind, size, permissions, times and etag of a file or directory.",
            Effect::Read,
            |server, context, asked| Box::pin(server.get_file_info(context, asked)),
        )
        .add(
            "delete_file",
            "Delete a file",
            "Deletes a file, a symbolic link or an empty directory. What a link leads to stays.",
            Effect::Replace,
            |server, context, asked| Box::pin(server.delete_file(context, asked)),
        )
        .add(
            "search_files",
            "Search files",
            "Finds files and directories by a glob of their names or paths, and files by a text in their \
             lines. Says in `truncated` when it stopped early.",
            Effect::Read,
            |server, context, asked| Box::pin(server.search_files(context, asked)),
        )
});
