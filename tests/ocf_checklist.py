# SPDX-License-Identifier: GPL-2.0-or-later
"""What the OCF contract and Pacemaker ask of a resource agent, and the tests that hold this one to it.

tests/unit/test_checklist.py sees to it that no item is missing and that every test named here exists.
"""

from typing import Final, NamedTuple


class Item(NamedTuple):
    """One demand: its number, what is demanded, the tests (`file::test`, below tests/), and where we differ and why."""

    number: int
    demand: str
    tests: tuple[str, ...]
    differs: str = ""


INTERFACE: Final = "server/test_interface.py::"
METADATA: Final = "unit/test_metadata.py::"
PROBE: Final = "server/test_probe.py::"
LIFE: Final = "server/test_life_cycle.py::"
STOP: Final = "server/test_stop.py::"
BAD: Final = "server/test_bad_parameters.py::"
SINGLE: Final = "server/test_single.py::"
NOTIFY: Final = "server/test_notify.py::"
MONITOR: Final = "server/test_monitor.py::"
CONTRACT: Final = "server/test_contract.py::"
OCF: Final = "unit/test_ocf.py::"
VIEWS: Final = "cluster/test_pacemakers_views.py::"

ITEMS: Final = (
    # Meta-data
    Item(
        1,
        "meta-data is printed for anybody, in an empty environment",
        (
            f"{INTERFACE}test_meta_data_needs_neither_root_nor_environment",
            "unit/test_install.py::test_nobody_can_read_the_meta_data_in_any_environment",
        ),
    ),
    Item(
        2,
        "the XML declaration names no encoding, or crmsh refuses the document",
        (f"{METADATA}test_crmsh_can_parse_it", f"{INTERFACE}test_meta_data_needs_neither_root_nor_environment"),
    ),
    Item(
        3,
        "the document is valid by the schema of OCF 1.1",
        (f"{METADATA}test_xmllint_is_content", f"{METADATA}test_the_dtd_notices_what_ocf_forbids"),
        differs="Validated by the schema of pcs for OCF 1.1 and by the stricter DTD inside the document: the licence of"
        " OCF's own schema does not let us carry it.",
    ),
    Item(
        4,
        "the document is valid by its DTD, which ocf-tester asks for",
        (f"{METADATA}test_xmllint_is_content", f"{METADATA}test_it_is_valid_against_the_dtd_it_holds"),
    ),
    Item(5, "the document is valid by the schema of pcs", (f"{METADATA}test_xmllint_is_content",)),
    Item(6, "crmsh can show it", ("unit/test_install.py::test_crmsh_pcs_and_pacemaker_show_it",)),
    Item(7, "pcs can show it", ("unit/test_install.py::test_crmsh_pcs_and_pacemaker_show_it",)),
    Item(
        8,
        "English descriptions come first, Japanese ones after them",
        (f"{METADATA}test_every_parameter_and_the_agent_have_english_texts_first",),
        differs="English only: crmsh and pcs show the first text whatever its language, so nobody would see another.",
    ),
    Item(
        9,
        "every parameter of the shell agent is there, with its default",
        (
            f"{METADATA}test_every_parameter_of_the_shell_agent_on_this_machine_is_there_with_its_default",
            "unit/test_parameters.py::test_names_and_defaults_are_those_of_the_shell_agent",
        ),
    ),
    Item(
        10,
        "two monitors of different intervals are advised, and roles are called Promoted and Unpromoted",
        (f"{METADATA}test_advised_times_are_those_of_the_shell_agent",),
    ),
    # Calling it
    Item(11, "an unknown action answers 3", (f"{INTERFACE}test_an_unknown_action_is_not_implemented",)),
    Item(
        12,
        "no action at all is an error and no traceback",
        (f"{INTERFACE}test_no_action_is_an_error_and_no_traceback",),
    ),
    Item(13, "further arguments are ignored", (f"{INTERFACE}test_further_arguments_are_ignored",)),
    Item(14, "it works without OCF_ROOT", (f"{INTERFACE}test_the_installed_agent_answers_a_probe",)),
    Item(15, "usage and methods answer 0", (f"{INTERFACE}test_words_that_ask_for_text_get_it",)),
    # Probes and monitors
    Item(
        16,
        "a probe without the programs answers 7",
        (
            f"{PROBE}test_what_is_missing_on_a_node_is_no_failure_of_a_probe",
            f"{PROBE}test_a_probe_of_a_running_server_whose_program_is_gone",
        ),
    ),
    Item(
        17,
        "a probe without a data directory answers 7",
        (f"{PROBE}test_what_is_missing_on_a_node_is_no_failure_of_a_probe",),
    ),
    Item(
        18,
        "what is wrong on one node never makes a probe of a stopped server answer 1, 3, 4 or 6",
        (
            f"{PROBE}test_what_is_missing_on_a_node_is_no_failure_of_a_probe",
            f"{PROBE}test_a_configuration_that_cannot_be_read_is_no_failure_of_a_probe",
        ),
    ),
    Item(
        19,
        "a probe is one without an interval, with an empty one and with 0",
        (f"{PROBE}test_a_probe_tells_the_role_and_changes_nothing",),
    ),
    Item(
        20,
        "a recurring monitor of a stopped server answers 7",
        (f"{LIFE}test_stop_of_a_standby_is_idempotent", f"{BAD}test_a_stopped_server_is_one_with_any_bad_value"),
    ),
    # Stop, start, promote, demote
    Item(
        21,
        "stop of what does not run answers 0, as often as it is asked",
        (f"{LIFE}test_stop_of_a_standby_is_idempotent", f"{INTERFACE}test_the_installed_agent_stops_what_does_not_run"),
    ),
    Item(
        22,
        "stop with wrong parameters stops, and never says so while a process lives",
        (
            f"{BAD}test_stop_with_a_bad_parameter_really_stops",
            f"{BAD}test_stop_with_everything_wrong_really_stops",
            f"{STOP}test_stop_needs_no_program_and_no_user",
            f"{STOP}test_backends_without_a_postmaster_are_ended",
        ),
    ),
    Item(
        23,
        "stop never answers 7 (whatever a test in tests/server runs is checked for that by tests/server/agent.py)",
        (f"{STOP}test_a_stale_pid_file_is_not_trusted", f"{LIFE}test_stop_of_a_primary_is_clean"),
    ),
    Item(
        24,
        "start of what runs answers 0 and leaves it alone",
        (f"{LIFE}test_start_brings_up_a_standby_and_is_idempotent", "server/test_ocft.py::test_cases_of_ocft"),
    ),
    Item(
        25,
        "start of a promotable instance ends as a standby",
        (f"{LIFE}test_start_brings_up_a_standby_and_is_idempotent",),
    ),
    Item(
        26,
        "promote twice and demote twice answer 0",
        (
            f"{LIFE}test_promote_makes_a_primary_and_is_idempotent",
            f"{LIFE}test_demote_leaves_a_standby_and_is_idempotent",
        ),
    ),
    Item(
        27,
        "demote of what does not run answers 0",
        (f"{LIFE}test_demote_of_a_server_that_is_gone", f"{CONTRACT}test_demote_of_a_stopped_server"),
    ),
    Item(
        28,
        "promote and demote answer 3 where there are no roles (rep_mode none and slave)",
        (f"{SINGLE}test_a_single_server_has_no_roles", f"{SINGLE}test_a_standby_of_a_primary_outside"),
    ),
    # Notifications
    Item(
        29,
        "notify answers 0 without variables and with lists of one blank",
        (
            f"{NOTIFY}test_a_notification_without_variables",
            f"{NOTIFY}test_every_notification_succeeds_with_empty_lists",
        ),
    ),
    Item(
        30,
        "notify answers 0 with a server that is down, hangs or crashed, and without a cluster",
        (
            f"{NOTIFY}test_every_notification_succeeds",
            f"{NOTIFY}test_a_notification_with_a_hanging_server_ends_in_time",
            f"{NOTIFY}test_notifications_succeed_without_a_cluster",
        ),
    ),
    Item(
        31,
        "old names of roles, new ones and both mean the same",
        (
            "unit/test_notification.py::test_old_and_new_names_mean_the_same",
            f"{NOTIFY}test_old_and_new_names_mean_the_same",
        ),
    ),
    Item(
        32,
        "a promotable clone is known by any of promotable, promoted_max and master_max",
        (
            f"{BAD}test_each_sign_of_a_promotable_clone_is_enough",
            f"{BAD}test_start_outside_of_a_promotable_clone_is_refused",
        ),
    ),
    # Codes
    Item(
        33,
        "6 is for start and validate-all, and never for a fault of one node",
        (
            f"{CONTRACT}test_no_fault_of_one_node_stops_the_whole_clone",
            f"{CONTRACT}test_no_fault_beside_a_running_server_stops_the_whole_clone",
            "server/test_failed_start.py::test_what_is_wrong_on_this_node_is_told",
        ),
    ),
    Item(
        34,
        "a hanging primary answers 9 or 1, a hanging standby never 8 or 9",
        (f"{MONITOR}test_a_postmaster_that_hangs_is_a_failure_within_the_timeout",),
    ),
    Item(
        35,
        "a monitor of a primary that was stopped cleanly answers 7",
        (f"{LIFE}test_stop_of_a_primary_is_clean",),
    ),
    Item(
        36,
        "each failure gives one exit reason on one line, without a secret (checked by tests/server/agent.py, too)",
        (
            f"{OCF}TestExitReason::test_it_has_the_cookie_and_is_one_line",
            f"{INTERFACE}test_a_secret_is_never_shown",
            "server/test_monitor_user.py::test_a_password_is_seen_nowhere",
        ),
    ),
    Item(
        37,
        "the prefix of the exit reason is the caller's",
        (f"{INTERFACE}test_the_prefix_of_the_exit_reason_is_the_callers",),
    ),
    # Logs and traces
    Item(
        38,
        "a monitor that finds nothing wrong prints nothing",
        (f"{CONTRACT}test_a_monitor_under_pacemaker_says_nothing",),
    ),
    Item(
        39,
        "HA_debug=0 means no debug lines",
        (
            f"{INTERFACE}test_debug_is_written_only_if_asked_for",
            f"{OCF}TestLog::test_details_are_written_if_debug_is_on",
        ),
    ),
    Item(
        40,
        "log lines are tagged with type, resource and process",
        (
            f"{OCF}TestLog::test_a_line_names_the_resource_and_is_one_line",
            f"{OCF}TestLog::test_syslog_gets_the_same_name",
        ),
    ),
    Item(
        41,
        "a log that cannot be written changes no answer",
        (
            f"{INTERFACE}test_a_log_that_cannot_be_written_changes_nothing",
            f"{OCF}TestLog::test_without_any_place_it_goes_to_stderr",
        ),
    ),
    Item(
        42,
        "a trace goes to trace_dir/TYPE/RESOURCE.ACTION.TIME",
        ("server/test_trace.py::test_a_trace_holds_what_was_seen_and_decided_and_no_secret",),
    ),
    Item(
        43,
        "a trace goes to an open descriptor or a file; one that cannot be written changes no answer",
        (
            f"{CONTRACT}test_a_trace_goes_where_it_is_wanted",
            "server/test_trace.py::test_a_trace_that_cannot_be_written_changes_nothing",
        ),
    ),
    # Processes
    Item(
        44,
        "a monitor that is killed at any moment leaves nothing half done",
        (f"{CONTRACT}test_a_monitor_that_is_killed_anywhere_leaves_nothing_half_done",),
    ),
    Item(
        45,
        "the server is not in the process group of the action that started it",
        (f"{LIFE}test_the_server_is_not_in_the_process_group_of_the_action",),
    ),
    Item(46, "the server holds no pipe of that action", (f"{LIFE}test_the_server_holds_no_pipe_of_the_action",)),
    # Pacemaker's tools
    Item(
        47,
        "scores are written in the form that every version of Pacemaker reads, for a named node",
        (f"{CONTRACT}test_every_call_of_a_tool_names_its_node_in_a_form_that_every_version_reads",),
    ),
    Item(48, "every monitor asserts the score again", (f"{MONITOR}test_scores_are_asserted_again",)),
    Item(
        49,
        "nothing permanent is written without quorum",
        (
            f"{CONTRACT}test_no_permanent_record_is_written_without_quorum",
            "unit/test_primary.py::test_without_quorum_nothing_is_planned",
        ),
    ),
    Item(
        50,
        "permanent attributes are written when they change, and only then",
        (
            f"{LIFE}test_a_healthy_primary_is_monitored_without_writing",
            "cluster/test_start.py::test_a_healthy_cluster_writes_nothing",
        ),
    ),
    Item(
        51,
        "the permanent attributes of offline nodes are seen",
        (
            "unit/test_cib.py::TestAttributes::test_permanent_ones_of_a_node_that_is_down",
            "unit/test_cib.py::TestAttributes::test_permanent_ones_of_a_node_without_a_state",
        ),
    ),
    Item(
        52,
        "a query names a node, or asks for all of them",
        (f"{CONTRACT}test_every_call_of_a_tool_names_its_node_in_a_form_that_every_version_reads",),
    ),
    Item(
        53,
        "without Pacemaker every action ends in its time, and stop stops",
        (
            f"{STOP}test_stop_needs_no_cluster",
            f"{STOP}test_stop_does_not_wait_for_a_hanging_cluster",
            f"{MONITOR}test_a_cluster_that_hangs_is_no_failure_of_the_server",
            "server/test_failed_start.py::test_start_without_a_cluster_fails_in_time",
        ),
    ),
    Item(
        54,
        "promote refuses beside another primary, without a record that allows it, and behind newer data",
        (
            f"{LIFE}test_promote_without_quorum_is_refused",
            f"{LIFE}test_promote_without_a_record_that_allows_it_is_refused",
            "unit/test_promotion.py::test_nothing_is_promoted_beside_a_primary",
            "unit/test_promotion.py::test_sync_one_that_is_behind_the_synchronous_standby_may_not",
        ),
    ),
    # Validation and changes
    Item(
        55,
        "validate-all works with nothing but parameters and changes no file",
        (f"{BAD}test_validate_all_with_nothing_but_parameters",),
    ),
    Item(
        56,
        "validate-all looks at the node from OCF_CHECK_LEVEL 10 on; a level in between is the next lower one",
        (
            f"{BAD}test_validate_all_looks_at_the_node_only_if_asked",
            f"{CONTRACT}test_levels_of_validate_all_in_between_are_the_next_lower_one",
        ),
    ),
    Item(
        57,
        "a reloadable parameter changes without a restart",
        ("cluster/test_reload.py::test_reloadable_parameters_change_without_a_restart",),
    ),
    Item(
        58,
        "an instance with a number uses the same attributes",
        (f"{LIFE}test_actions_of_instances_with_a_number_use_the_same_attributes",),
    ),
    Item(
        59,
        "what is heavy is loaded only where it is used",
        (
            f"{CONTRACT}test_meta_data_of_the_installed_agent_loads_no_library",
            "unit/test_doors.py::test_light_actions_load_nothing_heavy",
        ),
    ),
    # Test suites and whole clusters
    Item(
        60,
        "ocf-tester passes, alone and as a promotable clone",
        ("cluster/test_ocf_tester.py::test_ocf_tester_passes_without_a_warning",),
    ),
    Item(
        61,
        "the cases of ocft for the shell agent pass",
        ("server/test_ocft.py::test_cases_of_ocft",),
        differs="Run from a table of our own: ocft itself writes below /var and installs packages in every case.",
    ),
    Item(
        62,
        "old configurations (ms, role=Master) load, and crm_verify finds nothing",
        (
            "cluster/test_existing_configurations.py::test_the_classic_two_nodes_with_three_addresses_in_old_words",
            f"{VIEWS}test_checks_by_hand",
        ),
    ),
    Item(
        63,
        "a cluster lives through failing notifications, a killed attrd, maintenance, and a primary that is cut off",
        (
            f"{NOTIFY}test_a_notification_with_a_hanging_server_ends_in_time",
            f"{VIEWS}test_attrd_loses_its_values",
            f"{VIEWS}test_maintenance_and_unmanaged_leave_the_servers_alone",
            f"{VIEWS}test_pacemaker_restarts_under_running_servers",
            "cluster/test_isolation.py::test_a_primary_that_is_cut_off_is_fenced_and_returns",
        ),
    ),
)
