use std::os::unix::fs::symlink;

use rustix::io::Errno;
use tempfile::TempDir;

use super::*;

const OURS: &str = "# ours\nglobal\n";

fn place() -> (TempDir, ConfigFile) {
    let directory = tempfile::tempdir().unwrap();
    let file = ConfigFile::new(directory.path().join("haproxy.cfg"), "# ours");
    (directory, file)
}

fn names(directory: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(directory.path()).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn whose_a_file_is_stands_in_its_first_line() {
    let (_directory, file) = place();
    assert_eq!(file.owner().await.unwrap(), Owner::Missing);
    for (text, owner) in [
        ("", Owner::Missing),
        ("# ours", Owner::Ours),
        ("# ours\nglobal\n", Owner::Ours),
        ("# ours\r\nglobal\r\n", Owner::Ours),
        ("# ours too\n", Owner::Foreign),
        ("\n# ours\n", Owner::Foreign),
        ("\n", Owner::Foreign),
    ] {
        fs::write(file.path(), text).unwrap();
        assert_eq!(file.owner().await.unwrap(), owner, "{text:?}");
    }
}

#[tokio::test]
async fn a_commit_replaces_the_file_and_leaves_nothing_else() {
    let (directory, file) = place();
    assert_eq!(file.read().await.unwrap(), None);
    file.stage(OURS)
        .await
        .unwrap()
        .commit(|_| true)
        .await
        .unwrap();
    assert_eq!(file.read().await.unwrap().as_deref(), Some(OURS));
    assert_eq!(names(&directory), ["haproxy.cfg"]);
    let made = fs::metadata(file.path()).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    match account::gid("haproxy") {
        Ok(gid) if is_root => assert_eq!((made.mode() & 0o7777, made.gid()), (0o640, gid)),
        _ => assert_eq!(made.mode() & 0o7777, 0o644),
    }
    let other = ConfigFile::unmarked(directory.path().join("other"));
    let staged = other.stage(OURS).await.unwrap();
    staged.commit(|_| true).await.unwrap();
    let made = fs::metadata(other.path()).unwrap();
    assert_eq!(made.mode() & 0o7777, 0o644, "others may read it");
}

#[tokio::test]
async fn a_staged_text_is_hidden_and_gone_when_dropped() {
    let (directory, file) = place();
    let staged = file.stage(OURS).await.unwrap();
    assert!(names(&directory)[0].starts_with(".haproxy.cfg.serf-haproxy-"));
    assert_eq!(fs::read_to_string(staged.path()).unwrap(), OURS);
    drop(staged);
    let staged = file.stage(OURS).await.unwrap();
    staged.discard().await.unwrap();
    assert_eq!(names(&directory), [""; 0]);
}

#[tokio::test]
async fn the_same_failure_has_the_same_words_so_that_it_is_said_once() {
    let (directory, file) = place();
    directory.close().unwrap();
    let fails = async || {
        let error = file.stage(OURS).await.unwrap_err();
        format!("{error}: {}", std::error::Error::source(&error).unwrap())
    };
    assert_eq!(fails().await, fails().await);
}

#[tokio::test]
async fn two_staged_texts_do_not_meet() {
    let (_directory, file) = place();
    let first = file.stage("# ours\nfirst\n").await.unwrap();
    let second = file.stage("# ours\nsecond\n").await.unwrap();
    first.commit(|_| true).await.unwrap();
    assert_eq!(
        file.read().await.unwrap().as_deref(),
        Some("# ours\nfirst\n")
    );
    second.commit(|_| true).await.unwrap();
    assert_eq!(
        file.read().await.unwrap().as_deref(),
        Some("# ours\nsecond\n")
    );
}

#[tokio::test]
async fn what_a_killed_run_left_is_swept_when_it_is_old() {
    let (directory, file) = place();
    for (name, age) in [
        (".haproxy.cfg.serf-haproxy-old", 7200),
        (".haproxy.cfg.serf-haproxy-new", 60),
        (".other", 7200),
    ] {
        let left = File::create(directory.path().join(name)).unwrap();
        left.set_modified(std::time::SystemTime::now() - Duration::from_secs(age))
            .unwrap();
    }
    file.stage(OURS)
        .await
        .unwrap()
        .commit(|_| true)
        .await
        .unwrap();
    assert_eq!(
        names(&directory),
        [".haproxy.cfg.serf-haproxy-new", ".other", "haproxy.cfg"]
    );
}

#[tokio::test]
async fn mode_and_symlink_are_kept() {
    let (directory, file) = place();
    let real = directory.path().join("real.cfg");
    fs::write(&real, OURS).unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    symlink("real.cfg", directory.path().join("between")).unwrap();
    symlink(directory.path().join("between"), file.path()).unwrap();
    file.stage("# ours\nnew\n")
        .await
        .unwrap()
        .commit(|_| true)
        .await
        .unwrap();
    assert!(file.path().symlink_metadata().unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&real).unwrap(), "# ours\nnew\n");
    assert_eq!(fs::metadata(&real).unwrap().mode() & 0o7777, 0o640);
    assert_eq!(names(&directory), ["between", "haproxy.cfg", "real.cfg"]);
}

#[tokio::test]
async fn a_symlink_to_nothing_stays_one() {
    let (directory, file) = place();
    symlink("later.cfg", file.path()).unwrap();
    assert_eq!(file.owner().await.unwrap(), Owner::Missing);
    file.stage(OURS)
        .await
        .unwrap()
        .commit(|_| true)
        .await
        .unwrap();
    assert!(file.path().symlink_metadata().unwrap().is_symlink());
    assert_eq!(
        fs::read_to_string(directory.path().join("later.cfg")).unwrap(),
        OURS
    );
}

#[tokio::test]
async fn owner_and_group_are_kept() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (_directory, file) = place();
    fs::write(file.path(), OURS).unwrap();
    std::os::unix::fs::chown(file.path(), Some(12), Some(34)).unwrap();
    file.stage("# ours\nnew\n")
        .await
        .unwrap()
        .commit(|_| true)
        .await
        .unwrap();
    let metadata = fs::metadata(file.path()).unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (12, 34));
}

#[tokio::test]
async fn a_foreign_file_is_refused_even_when_it_came_while_staging() {
    let (directory, file) = place();
    let staged = file.stage(OURS).await.unwrap();
    fs::write(file.path(), "global\n").unwrap();
    assert!(matches!(
        staged.commit(|_| true).await,
        Err(FileError::Foreign { .. })
    ));
    assert_eq!(file.read().await.unwrap().as_deref(), Some("global\n"));
    assert_eq!(names(&directory), ["haproxy.cfg"]);
}

#[tokio::test]
async fn every_file_that_is_taken_over_is_kept_and_no_copy_is_overwritten() {
    let (directory, mut file) = place();
    let path = |name: &str| directory.path().join(name);
    let take_over = async |file: &mut ConfigFile, text: &str| {
        fs::write(file.path(), text).unwrap();
        let copy = file.adopt().await.unwrap();
        let staged = file.stage(OURS).await.unwrap();
        assert_eq!(staged.commit(|_| false).await.unwrap(), Replaced::Adopted);
        copy.unwrap()
    };
    fs::write(file.path(), "theirs\n").unwrap();
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o600)).unwrap();
    let first = path("haproxy.cfg.before-serf-haproxy");
    assert_eq!(take_over(&mut file, "theirs\n").await, first);
    assert_eq!(fs::metadata(&first).unwrap().mode() & 0o7777, 0o600);
    let second = path("haproxy.cfg.before-serf-haproxy.2");
    assert_eq!(take_over(&mut file, "theirs again\n").await, second);
    // The same text is there already.
    assert_eq!(take_over(&mut file, "theirs\n").await, first);
    fs::write(path("haproxy.cfg.before-serf-haproxy.17"), "kept by hand").unwrap();
    let next = path("haproxy.cfg.before-serf-haproxy.18");
    assert_eq!(take_over(&mut file, "a third\n").await, next);
    for (copy, text) in [
        (first, "theirs\n"),
        (second, "theirs again\n"),
        (next, "a third\n"),
    ] {
        assert_eq!(fs::read_to_string(copy).unwrap(), text);
    }
}

#[tokio::test]
async fn what_was_adopted_is_one_text_and_not_the_file() {
    let (directory, mut file) = place();
    fs::write(file.path(), "theirs\n").unwrap();
    file.adopt().await.unwrap().unwrap();
    fs::write(file.path(), "put here since\n").unwrap();
    let refused = file.stage(OURS).await.unwrap().commit(|_| true).await;
    assert!(
        matches!(refused, Err(FileError::Foreign { .. })),
        "{refused:?}"
    );
    assert_eq!(
        file.read().await.unwrap().as_deref(),
        Some("put here since\n")
    );
    assert_eq!(names(&directory).len(), 2);
}

#[tokio::test]
async fn too_many_copies_stop_a_take_over_and_nothing_is_written() {
    let (directory, mut file) = place();
    for number in 2..102 {
        let name = format!("haproxy.cfg.before-serf-haproxy.{number}");
        fs::write(directory.path().join(name), format!("{number}")).unwrap();
    }
    fs::write(file.path(), "theirs\n").unwrap();
    let refused = file.adopt().await;
    assert!(matches!(refused, Err(FileError::TooManyCopies { .. })));
    assert_eq!(names(&directory).len(), 101);
}

#[tokio::test]
async fn an_edit_by_hand_is_kept_before_it_is_overwritten_and_the_oldest_make_room() {
    let (directory, file) = place();
    file.stage(OURS)
        .await
        .unwrap()
        .commit(|_| true)
        .await
        .unwrap();
    for edit in 1..=12 {
        let text = format!("{OURS}# edit {edit}\n");
        fs::write(file.path(), &text).unwrap();
        let staged = file.stage(OURS).await.unwrap();
        let replaced = staged.commit(|text| text == OURS).await.unwrap();
        let Replaced::Edited(copy) = replaced else {
            panic!("{replaced:?}")
        };
        assert_eq!(fs::read_to_string(&copy).unwrap(), text);
        let name = copy.file_name().unwrap().to_str().unwrap();
        let number = if edit == 1 {
            String::new()
        } else {
            format!(".{edit}")
        };
        assert_eq!(name, format!("haproxy.cfg.edited{number}"));
    }
    let copies = names(&directory);
    assert_eq!(copies.len(), 11, "{copies:?}");
    assert!(
        !copies.contains(&"haproxy.cfg.edited".to_owned()),
        "{copies:?}"
    );
    let staged = file.stage(OURS).await.unwrap();
    let replaced = staged.commit(|text| text == OURS).await.unwrap();
    assert_eq!(replaced, Replaced::Known);
}

#[tokio::test]
async fn a_file_without_a_mark_is_kept_where_it_is_not_known() {
    let (directory, file) = place();
    let file = ConfigFile::unmarked(file.path());
    let commit = async |text: &'static str, known: &'static str| {
        let staged = file.stage(text).await.unwrap();
        staged.commit(move |there| there == known).await.unwrap()
    };
    assert_eq!(commit("one", "").await, Replaced::Known);
    assert_eq!(commit("two", "one").await, Replaced::Known);
    let copy = directory.path().join("haproxy.cfg.edited");
    assert_eq!(commit("three", "one").await, Replaced::Edited(copy.clone()));
    assert_eq!(fs::read_to_string(copy).unwrap(), "two");
}

#[tokio::test]
async fn a_file_of_ours_needs_no_copy() {
    let (directory, mut file) = place();
    fs::write(file.path(), OURS).unwrap();
    assert_eq!(file.adopt().await.unwrap(), None);
    assert_eq!(names(&directory), ["haproxy.cfg"]);
}

#[tokio::test]
async fn what_is_no_file_and_what_has_no_directory_is_named() {
    let (directory, _) = place();
    let file = ConfigFile::new(directory.path(), "# ours");
    assert!(matches!(
        file.owner().await,
        Err(FileError::NotAFile { .. })
    ));
    assert!(matches!(
        file.stage(OURS).await,
        Err(FileError::NotAFile { .. })
    ));
    let file = ConfigFile::new(directory.path().join("missing/haproxy.cfg"), "# ours");
    let error = file.stage(OURS).await.unwrap_err();
    assert!(error.to_string().contains("missing/haproxy.cfg"), "{error}");
}

#[test]
fn what_the_disk_refuses_is_told_apart() {
    let error = |code: Errno| FileError::new("replace", Path::new("/x"), code.into());
    assert!(matches!(error(Errno::ACCESS), FileError::Denied { .. }));
    assert!(matches!(error(Errno::PERM), FileError::Denied { .. }));
    assert!(matches!(error(Errno::ROFS), FileError::Denied { .. }));
    assert!(matches!(error(Errno::NOSPC), FileError::NoSpace { .. }));
    assert!(matches!(error(Errno::DQUOT), FileError::NoSpace { .. }));
    assert!(matches!(error(Errno::BUSY), FileError::Busy { .. }));
    assert!(matches!(error(Errno::IO), FileError::Io { .. }));
}

#[tokio::test]
async fn a_check_names_the_file_it_is_to_become() {
    let (_directory, file) = place();
    let staged = file.stage(OURS).await.unwrap();
    let script = "echo \"[ALERT]    (1) : config : parsing [$0:2] : unknown keyword 'x'\"; exit 1"
        .to_owned();
    let command = [
        "sh".to_owned(),
        "-c".to_owned(),
        script,
        "{path}".to_owned(),
    ];
    let checked = staged
        .check(&command, Duration::from_secs(20))
        .await
        .unwrap();
    assert!(!checked.valid);
    assert_eq!(checked.status, "exit code 1");
    assert_eq!(
        checked.messages[0].location,
        Some((file.path().to_owned(), 2))
    );
    assert_eq!(checked.messages[0].text, "unknown keyword 'x'");
}
