use super::*;

const FILES: [&str; 3] = [TEMPLATE, CONFIG, REPORT];

/// Files as they would be for this site.
fn site_files(folder: &Path, site: &Path, template: &str) -> Files {
    let known = BTreeMap::from([
        (TEMPLATE, Stamp::of_blank(template).0),
        (CONFIG, Stamp::of_blank("config").0),
    ]);
    let report = serde_json::json!({ "file": site, "files": known });
    Files {
        folder: folder.to_owned(),
        texts: [
            (TEMPLATE, template.to_owned()),
            (CONFIG, "config".to_owned()),
        ],
        report: report.to_string(),
    }
}

#[test]
fn what_is_written_is_taken_away_again_and_nothing_else_ever() {
    let root = tempfile::tempdir().unwrap();
    let (folder, site) = (root.path().join("out"), root.path().join("haproxy.cfg"));
    fs::write(&site, "global\n").unwrap();
    assert_eq!(undo(&folder).unwrap(), Undone::Nothing);
    let files = site_files(&folder, &site, "template");
    assert!(!files.are_there());
    assert_eq!(files.write().unwrap().len(), 3);
    assert!(files.are_there());
    // over nothing, whatever it says
    assert!(matches!(files.write(), Err(FilesError::There(_))));
    assert!(!site_files(&folder, &site, "another").are_there());
    let other = folder.join("other");
    fs::write(&other, "mine").unwrap();
    let Undone::Gone(gone) = undo(&folder).unwrap() else {
        panic!("nothing was there");
    };
    assert_eq!(gone.len(), 3);
    assert_eq!(undo(&folder).unwrap(), Undone::Nothing);
    assert_eq!(fs::read_to_string(other).unwrap(), "mine");
    assert_eq!(fs::read_to_string(site).unwrap(), "global\n");
}

#[test]
fn what_somebody_has_changed_or_goes_by_stays_with_all_the_rest() {
    let root = tempfile::tempdir().unwrap();
    let (folder, site) = (root.path().join("out"), root.path().join("haproxy.cfg"));
    fs::write(&site, "global\n").unwrap();
    let files = site_files(&folder, &site, "template");
    for name in FILES {
        files.write().unwrap();
        fs::write(folder.join(name), "edited").unwrap();
        let refused = undo(&folder).unwrap_err().to_string();
        assert!(refused.contains(name), "{refused}");
        assert!(FILES.iter().all(|name| folder.join(name).exists()));
        fs::remove_dir_all(&folder).unwrap();
    }
    files.write().unwrap();
    let ours = format!("{}\nglobal\n", planner::render::FIRST_LINE);
    fs::write(&site, ours).unwrap();
    assert!(matches!(undo(&folder), Err(FilesError::InUse(_))));
    fs::write(&site, "global\n").unwrap();
    assert!(matches!(undo(&folder), Ok(Undone::Gone(_))));
}

#[test]
fn a_folder_that_cannot_be_written_is_left_as_it_was() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "x").unwrap();
    let files = site_files(&file, &file, "template");
    assert!(matches!(files.write(), Err(FilesError::File { .. })));
    assert_eq!(fs::read_to_string(file).unwrap(), "x");
}
