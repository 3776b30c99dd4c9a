"""Forty faults that suites like this one have had, and the tests that show how CLEAR withstands each.

``python tests/faults/covered.py`` regenerates ``docs/faults.md``. A fault counts as held if tests are named and nothing
is lacking; ``test_covered.py`` checks that each test exists.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "faults.md"


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        what: What goes wrong.
        tests: ``FILE::TEST`` under ``tests``; FILE alone for all tests of a file.
        lacking: What no test covers.
    """

    what: str
    tests: tuple[str, ...] = ()
    lacking: str = ""

    @property
    def held(self) -> bool:
        return bool(self.tests) and not self.lacking


CLIENT = "tasks/language/test_language_client.py"
REPLIES = "tasks/language/test_language_replies.py"
CACHE = "tasks/cache/test_cache_"
STORE = "leaderboard/test_store.py"
CONFIG, LOST = "tasks/language/test_language_config.py", "faults/test_lost.py"
KILL, STOP, DISK = "faults/test_kill.py", "faults/test_stop.py", "faults/test_disk.py"
NUMBERS, FAIL = "faults/test_numbers.py", "faults/test_methods_fail.py"
IMAGES, FOLDER = "tasks/test_image_files.py", "tasks/probing/test_probing_folder.py"
DOWNLOAD, ENGINE = "tasks/probing/test_probing_download.py", "tasks/test_perturbations.py"
PLUGINS, PAGES = "benchmark/test_plugins.py", "leaderboard/test_pages.py"

FAULTS: dict[int, Fault] = {
    1: Fault(
        "Activations on clean images are used for a blurred condition",
        (
            f"{CACHE}keys.py::test_clean_and_blurred_never_share_a_blob",
            f"{NUMBERS}::test_f01_a_method_that_hashes_pixels_is_not_stable",
        ),
    ),
    2: Fault(
        "A changed field keeps its cache key, or a batch size changes it",
        (
            f"{CACHE}keys.py::test_each_field_of_the_images_changes_the_key",
            f"{CACHE}keys.py::test_each_field_of_a_pass_changes_the_key",
            f"{CACHE}keys.py::test_no_runtime_setting_is_a_parameter",
            f"{CACHE}replies.py::test_each_part_of_a_request_asks_again",
            "benchmark/test_options.py::test_every_field_is_either_identity_or_runtime_or_a_place",
            "tasks/test_sources.py::test_identity_is_what_a_result_depends_on",
        ),
    ),
    3: Fault(
        "A bit flips in a stored file",
        (
            f"{CACHE}blobs.py::test_a_flipped_bit_is_found_set_aside_and_recomputed",
            f"{CACHE}roles.py::test_a_damaged_answer_gives_the_result_of_a_fresh_run",
            f"{STORE}::test_a_flipped_bit_sets_the_part_aside",
            f"{CACHE}answers.py::test_a_value_that_cannot_be_read_is_made_again",
            f"{CACHE}replies.py::test_a_shared_reply_that_cannot_be_read_is_asked_for_again",
            f"{CACHE}replies.py::test_a_damaged_file_of_replies_is_a_sentence",
            f"{LOST}::test_f03_lost_thumbnails_are_made_again",
            f"{LOST}::test_f03_damaged_thumbnails_that_nobody_wants_are_no_hindrance",
            f"{LOST}::test_f03_a_lost_table_is_told_and_made_again",
            f"{STORE}::test_a_copied_or_edited_marker_is_that_of_no_part",
            f"{STORE}::test_wrong_types_in_run_json_are_one_sentence",
            "leaderboard/test_board.py::test_a_damaged_run_is_left_out_and_the_others_stay",
        ),
    ),
    4: Fault(
        "SIGKILL at 30 random points in time",
        (
            f"{KILL}::test_f04_three_kills",
            f"{KILL}::test_f04_thirty_kills",
            f"{KILL}::test_f04_a_reply_that_was_kept_is_not_paid_again_after_a_kill",
        ),
    ),
    5: Fault(
        "Ctrl-C, and SIGTERM from a batch system", (STOP, "benchmark/test_cli.py::test_ctrl_c_says_how_to_continue")
    ),
    6: Fault(
        "A process is killed between data and marker, or between writing and renaming",
        (
            f"{KILL}::test_f06_a_kill_at_any_step_of_writing_leaves_the_cell_undone",
            f"{STORE}::test_what_is_no_marker_is_set_aside",
            f"{STORE}::test_f08_where_every_lock_succeeds_nobody_deletes_what_another_writes",
        ),
    ),
    7: Fault(
        "The disk is full",
        (
            f"{DISK}::test_f07_each_write_says_what_it_needed_and_leaves_nothing_half_written",
            f"{DISK}::test_f07_a_run_on_a_full_disk_keeps_what_is_finished_and_continues",
            f"{DISK}::test_f07_a_disk_that_is_really_full",
            f"{CACHE}blobs.py::test_a_cache_that_cannot_be_written_costs_one_warning_and_no_result",
            f"{CACHE}blobs.py::test_whatever_the_cache_raises_is_one_warning_and_no_failure",
            f"{CACHE}answers.py::test_a_file_that_another_process_holds_costs_one_bounded_wait",
            "tasks/test_spool.py::test_without_any_folder_for_temporary_files_rows_are_made_each_time",
        ),
    ),
    8: Fault(
        "Two or eight processes work on one run folder",
        (
            f"{KILL}::test_f08_two_processes_do_each_cell_once_and_both_have_whole_tables",
            f"{KILL}::test_f08_eight_processes",
            f"{KILL}::test_f08_whoever_has_nothing_left_to_do_waits_and_says_for_whom",
            f"{STORE}::test_three_processes_do_each_cell_once",
            f"{STORE}::test_f08_where_every_lock_succeeds_nobody_deletes_what_another_writes",
            f"{STORE}::test_a_second_attempt_at_a_cell_never_replaces_the_first",
        ),
    ),
    9: Fault(
        "A claim is left by a dead process on another host",
        (
            f"{KILL}::test_f09_what_a_dead_process_had_claimed_is_free",
            f"{KILL}::test_f09_the_note_of_a_dead_process_on_another_host_claims_nothing",
            f"{STORE}::test_f09_a_lease_of_another_host_runs_out_unless_it_is_refreshed",
        ),
        "on a local disk a claim is a file lock, released with its process; elsewhere a lease, taken over after 30 s; "
        "tested with made-up hosts on one machine, not on a network file system",
    ),
    10: Fault(
        "A run is continued with different settings",
        (
            f"{STORE}::test_a_changed_identity_is_refused_with_the_fields",
            "benchmark/test_run.py::test_another_seed_is_refused_in_the_same_folder",
        ),
    ),
    11: Fault(
        "Result files of an older or a newer schema",
        ("leaderboard/test_migrations.py", f"{STORE}::test_other_schema_versions_are_refused"),
    ),
    12: Fault(
        "A layer gives NaN, infinity or zeros; a unit is constant",
        (
            f"{NUMBERS}::test_f12_units_without_numbers_are_counted_and_left_out",
            f"{NUMBERS}::test_f12_a_layer_without_numbers_ends_with_no_unit_left",
            "benchmark/test_run.py::test_dead_units_are_counted_and_left_out",
        ),
    ),
    13: Fault(
        "Image files that are truncated, empty, huge, or in a rare format",
        (
            IMAGES,
            f"{FOLDER}::test_broken_files_are_left_out_and_listed",
            f"{FOLDER}::test_odd_but_sound_files_are_converted",
            f"{FOLDER}::test_what_cannot_be_had_is_said_in_a_sentence",
            f"{LOST}::test_f13_images_that_are_left_out_are_counted_and_named",
        ),
    ),
    14: Fault(
        "An image folder in a different order, in a different locale, with links or duplicates",
        (
            f"{FOLDER}::test_the_set_does_not_depend_on_how_it_lies_on_disk",
            f"{FOLDER}::test_duplicates_are_reported_and_kept",
            f"{IMAGES}::test_the_locale_does_not_matter_and_torch_is_not_loaded",
            f"{IMAGES}::test_a_folder_of_links_gives_what_the_files_give",
            "baselines/test_clip_dissect.py::test_labels_do_not_depend_on_the_order_of_the_images_and_ties_are_counted",
            "baselines/test_evidence.py::test_the_order_of_the_images_changes_no_top_image",
        ),
    ),
    15: Fault(
        "Hash seeds, threads, batch sizes or processes change a label",
        (
            f"{NUMBERS}::test_f15_batches_and_threads_change_no_label",
            f"{NUMBERS}::test_f15_hash_seeds_and_processes_change_no_byte",
            f"{KILL}::test_f08_eight_processes",
            f"{NUMBERS}::test_f15_one_or_two_threads_read_the_same_bits",
        ),
        "differences on a GPU are not measured; a number of threads that does not divide the batch of 16 (3, 5) "
        "changes a transformer's last digits (docs/cache.md)",
    ),
    16: Fault(
        "A unit labelled alone gets a different label than among others",
        (
            "benchmark/test_run.py::test_a_unit_alone_gets_the_label_it_gets_among_others",
            "baselines/test_clip_dissect.py::test_one_unit_alone_gets_what_it_gets_among_all",
            "baselines/test_network_dissection.py::test_one_unit_alone_gets_what_it_gets_among_all",
            "baselines/test_dnd_method.py::test_a_unit_alone_gets_what_it_gets_among_others",
            "baselines/test_semantic_lens.py::test_one_unit_alone_gets_what_it_gets_among_all",
            "baselines/test_linear.py::test_one_unit_alone_gets_what_it_gets_among_all",
            "baselines/test_invert.py::test_one_unit_alone_gets_what_it_gets_among_all",
            "baselines/test_line.py::test_a_unit_alone_gets_the_label_it_gets_among_others",
        ),
    ),
    17: Fault(
        "The same image, perturbed twice, gives two results; global random generators change state",
        (
            f"{NUMBERS}::test_f17_another_process_and_another_order_give_the_same_bytes",
            f"{ENGINE}::test_pixels_do_not_depend_on_batch_order_or_threads",
            f"{ENGINE}::test_global_generators_are_neither_read_nor_changed",
        ),
    ),
    18: Fault(
        "A corruption deviates from its published form",
        (
            "tasks/test_perturbations_golden.py",
            "tasks/test_perturbations_reference.py",
            f"{ENGINE}::test_distance_to_the_clean_image_grows_with_severity",
        ),
    ),
    19: Fault(
        "A metric violates its own identities",
        (
            "metrics/test_identities.py",
            "metrics/test_stability.py",
            "metrics/test_statistics.py::test_too_few_values_have_no_interval_and_a_reason",
            "metrics/test_statistics.py::test_equal_values_have_a_point_and_a_reason",
        ),
    ),
    20: Fault("A mutated metric passes its tests", (), "no mutation testing of metrics"),
    21: Fault(
        "A language model's server limits, fails, hangs or responds slowly",
        (
            f"{CLIENT}::test_a_rate_limit_waits_as_told",
            f"{CLIENT}::test_what_may_pass_is_tried_again",
            f"{CLIENT}::test_attempts_are_bounded",
            f"{CLIENT}::test_the_total_time_is_bounded",
            f"{CLIENT}::test_a_slow_answer_ends_in_time",
            f"{CLIENT}::test_an_error_inside_a_choice_is_tried_again",
        ),
    ),
    22: Fault(
        "No quota, no permission, no such model",
        (
            f"{CLIENT}::test_what_will_not_pass_is_not_tried_again",
            f"{CLIENT}::test_a_key_error_names_the_variable",
        ),
    ),
    23: Fault(
        "An invalid answer",
        (
            f"{CLIENT}::test_an_odd_answer_is_an_error_and_is_not_kept",
            f"{REPLIES}::test_an_answer_that_is_none_is_not_kept",
            f"{CLIENT}::test_text_beside_the_call_of_a_tool_is_no_answer",
            f"{CLIENT}::test_replies_that_cannot_be_used_are_counted",
            f"{CLIENT}::test_tokens_beyond_all_reason_are_unknown_and_lose_no_reply",
            "tasks/language/test_language_summariser.py::test_a_refusal_in_words_is_neither_a_caption_nor_a_name",
        ),
    ),
    24: Fault(
        "A model answers the same request differently",
        (
            f"{REPLIES}::test_the_first_of_two_replies_counts",
            f"{REPLIES}::test_the_model_counts_and_another_sample_is_kept_beside_the_first",
            "benchmark/test_run.py::test_scores_follow_their_definitions",
        ),
    ),
    25: Fault(
        "The price cap is reached",
        (
            f"{CLIENT}::test_the_price_cap_stops_before_the_request",
            f"{REPLIES}::test_processes_share_replies_and_the_cap",
        ),
    ),
    26: Fault(
        "A thousand requests under a rate limit",
        (
            f"{CLIENT}::test_the_rate_limit_is_kept_and_leaks_no_thread",
            f"{CLIENT}::test_the_rate_limit_holds_over_threads",
        ),
    ),
    27: Fault(
        "No key, or a broken one",
        (
            "benchmark/test_language.py::test_a_missing_key_is_told_before_any_model_is_loaded",
            f"{CLIENT}::test_a_missing_or_broken_key_is_found_before_any_request",
        ),
    ),
    28: Fault(
        "A key appears in logs, files or errors",
        (
            f"{CLIENT}::test_a_planted_key_appears_nowhere",
            "benchmark/test_doctor.py::test_json_says_the_same_and_never_a_key",
            f"{CONFIG}::test_a_wrong_loader_does_not_print_the_fields_beside_it",
            f"{CONFIG}::test_a_mistake_is_one_sentence",
        ),
        "pages and reports are not searched for keys",
    ),
    29: Fault(
        "Hostile labels in pages, LaTeX, CSV, terminal, plots and file names",
        (
            "report/test_escape.py",
            f"{PAGES}::test_hostile_text_is_text_everywhere",
            f"{PAGES}::test_csv_cells_are_no_formulas",
            "leaderboard/test_unit_pages_browser.py::test_hostile_labels_are_shown_as_text",
            "report/test_report_pdf.py::test_hostile_text_is_shown_and_does_nothing",
            "benchmark/test_display.py::test_hostile_text_is_never_markup_or_control_codes",
            "tasks/test_text_border.py",
            f"{FAIL}::test_f29_a_lone_surrogate_is_replaced_and_no_run_fails",
            f"{FAIL}::test_f29_what_a_plugin_raises_brings_no_control_sequence_to_the_terminal",
            f"{CACHE}replies.py::test_a_reply_with_half_a_letter_is_kept_with_a_mark_for_it",
        ),
    ),
    30: Fault(
        "A page contacts a server, or needs more than its policy allows",
        (
            f"{PAGES}::test_the_policy_names_the_style_and_the_scripts_by_their_hashes",
            "leaderboard/test_pages_browser.py::test_the_policy_holds",
            "leaderboard/test_pages_browser.py::test_pages_ask_nobody_and_complain_of_nothing",
        ),
    ),
    31: Fault(
        "A caption instructs the language model what to answer",
        (
            "tasks/language/test_language_summariser.py::test_a_model_that_obeys_a_caption_gives_at_worst_a_wrong_label",
            "tasks/language/test_language_summariser.py::test_a_caption_stays_inside_its_line",
        ),
    ),
    32: Fault(
        "A file that executes code, or an archive that writes outside its folder",
        (
            "tasks/test_checkpoints.py::test_a_file_that_would_run_code_is_refused_and_runs_none",
            "tasks/test_weights.py::test_a_pickle_is_refused_and_does_not_run",
            "tasks/test_schema.py::test_yaml_mistakes_are_sentences",
            f"{DOWNLOAD}::test_hostile_archives_are_refused_whole",
            f"{DOWNLOAD}::test_an_archive_that_lies_about_a_size_is_refused",
            "tasks/test_schema.py::test_what_is_no_file_is_not_read",
            "benchmark/test_label_files.py::test_what_is_no_file_is_not_read",
            "tasks/test_networks.py::test_a_module_that_ends_the_process_or_raises_is_a_sentence",
        ),
    ),
    33: Fault(
        "A download is wrong, truncated, redirected, absent or slow",
        (
            f"{DOWNLOAD}::test_a_bad_source_leaves_nothing_and_the_next_is_tried",
            f"{DOWNLOAD}::test_a_cut_connection_is_resumed",
            f"{DOWNLOAD}::test_when_all_fail_the_message_lists_them_and_the_manual_way",
        ),
    ),
    34: Fault(
        "A connection is attempted although the run is offline",
        (
            "benchmark/test_doctor.py::test_no_socket_is_opened_and_all_that_misses_is_told",
            "benchmark/test_doctor.py::test_offline_is_said_to_every_library",
            "tasks/test_networks.py::test_offline_an_absent_published_file_is_told_at_once",
            f"{DOWNLOAD}::test_offline_opens_no_connection",
            f"{CLIENT}::test_offline_asks_nobody_but_knows_what_was_answered",
        ),
    ),
    35: Fault(
        "A plugin raises, reuses a name, returns nonsense or hangs",
        (
            f"{PLUGINS}::test_a_broken_plugin_is_one_warning_and_clears_own_remain",
            f"{PLUGINS}::test_a_method_with_a_wrong_answer_loses_its_own_cells_only",
            f"{FAIL}::test_f35_a_perturbation_that_fails_loses_its_own_cells",
            f"{FAIL}::test_f35_a_method_that_hangs_loses_its_cells_by_the_time_limit",
            f"{STOP}::test_f35_what_takes_too_long_is_stopped",
            f"{FAIL}::test_f35_what_cannot_be_stored_loses_its_own_cells",
            f"{FAIL}::test_f35_what_an_older_version_stored_of_a_detector_is_no_hindrance",
        ),
    ),
    36: Fault(
        "CUDA runs out of memory",
        (
            "tasks/test_target.py::test_without_memory_the_batch_is_halved_and_stays_so",
            "tasks/test_target.py::test_without_memory_for_one_image_the_error_says_so",
        ),
    ),
    37: Fault(
        "Some cells fail",
        (
            f"{FAIL}::test_f37_one_failed_cell_is_listed_with_its_exit_code_and_none_is_not",
            "benchmark/test_run.py::test_a_run_whose_every_cell_failed_lists_them_and_has_empty_tables",
            "leaderboard/test_board.py::test_an_incomplete_row_has_no_mean_and_says_what_is_missing",
        ),
    ),
    38: Fault(
        "A submission with edited scores",
        (
            "leaderboard/test_board.py::test_scores_out_of_their_ranges_are_not_believed",
            "leaderboard/test_board.py::test_tables_that_differ_from_those_the_run_finished_with_are_not_believed",
            "leaderboard/test_board.py::test_tables_that_were_edited_together_with_run_json_are_not_believed",
            "leaderboard/test_board.py::test_tables_of_another_run_are_not_believed",
            "leaderboard/test_board.py::test_tables_follow_from_the_parts",
            "leaderboard/test_board.py::test_an_edited_identity_is_not_believed",
            "leaderboard/test_submission.py::test_forged_tables_are_refused",
            "leaderboard/test_submission.py::test_forged_settings_are_refused",
            "leaderboard/test_submission.py::test_f38_edited_tables_without_new_hashes_are_refused",
            "benchmark/test_validate.py::test_f38_scores_that_do_not_follow_from_the_labels_are_refused",
            "benchmark/test_validate.py::test_f38_other_settings_than_here_are_refused",
            "benchmark/test_validate.py::test_f38_labels_that_the_method_does_not_give_are_refused",
            "benchmark/test_validate.py::test_f38_what_only_the_images_show_is_measured_again",
        ),
        "a run folder that was not merged from a submission is believed; of a method that is not installed, labels are",
    ),
    39: Fault(
        "A read-only or network file system, unusual names, a clock set back",
        (
            f"{DISK}::test_f39_a_file_system_without_locks_gets_leases",
            f"{DISK}::test_f39_a_folder_that_became_read_only_is_a_sentence",
            f"{DISK}::test_f39_odd_names_of_folders",
            "leaderboard/test_identity.py::test_safe_names_stay_in_their_folder_and_tell_texts_apart",
        ),
        "no clock set back, and no test on Windows or on a network file system",
    ),
    40: Fault(
        "A page or report built twice differs",
        (
            f"{PAGES}::test_a_second_build_gives_the_same_bytes",
            "report/test_report_build.py::test_a_second_build_has_the_same_bytes_and_no_path_of_this_machine",
            "report/test_report_pdf.py::test_a_second_build_elsewhere_has_the_same_bytes_pdf_and_all",
        ),
    ),
}


def held() -> int:
    """Number of faults that CLEAR withstands."""
    return sum(fault.held for fault in FAULTS.values())


def as_markdown() -> str:
    """Content of ``docs/faults.md``."""
    lines = [
        "# Faults",
        "",
        f"Faults that suites like this one have had. CLEAR withstands {held()} of {len(FAULTS)} faults:",
        "automated tests provoke each of them. For the others the table says what no test covers. Slow tests run with",
        "`pytest -m slow`.",
        "",
        "This page is written by `python tests/faults/covered.py`, and a test keeps it up to date.",
        "",
        "| | fault | tests | lacking |",
        "|---|---|---|---|",
    ]
    for number, fault in FAULTS.items():
        tests = "<br>".join(f"`{test}`" for test in fault.tests)
        lines.append(f"| F{number} | {fault.what} | {tests} | {fault.lacking} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(as_markdown(), encoding="utf-8")
