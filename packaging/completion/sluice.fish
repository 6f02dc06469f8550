# SPDX-License-Identifier: MIT
# fish completion of sluice(8)
complete -c sluice -f
complete -c sluice -n __fish_use_subcommand -a run -d 'Run in the foreground'
complete -c sluice -n __fish_use_subcommand -a test -d 'Test the configuration'
complete -c sluice -n __fish_use_subcommand -a reload -d 'Read the configuration again'
complete -c sluice -n __fish_use_subcommand -a restart -d 'Replace the workers'
complete -c sluice -n __fish_use_subcommand -a status -d 'Print the processes and their state'
complete -c sluice -n __fish_use_subcommand -a explain -d 'Which rule decides, and why'
complete -c sluice -n __fish_use_subcommand -a upgrade -d 'Switch to the programs that were installed'
complete -c sluice -n __fish_use_subcommand -a stop -d 'End the service'
complete -c sluice -n __fish_use_subcommand -a convert-ruleset -d 'Make another format of a rule set'
complete -c sluice -n '__fish_seen_subcommand_from convert-ruleset' -F
complete -c sluice -s d -l home -x -a '(__fish_complete_directories)' -d 'Working directory'
complete -c sluice -s f -l file -rF -d 'Configuration file'
complete -c sluice -o config -x -d 'Configuration as base64 text'
complete -c sluice -s t -l test -d 'Test the configuration and exit'
complete -c sluice -s v -l version -d 'Print the version'
complete -c sluice -s m -l geodata-mode -d 'Use geoip.dat instead of an mmdb'
complete -c sluice -o ext-ctl -x -d 'Override external-controller'
complete -c sluice -o ext-ctl-unix -rF -d 'Override external-controller-unix'
complete -c sluice -o ext-ctl-pipe -x -d 'Has no meaning on Linux'
complete -c sluice -o ext-ui -x -a '(__fish_complete_directories)' -d 'Override external-ui'
complete -c sluice -o secret -x -d 'Override the secret'
complete -c sluice -o force -d 'Upgrade also to the same programs'
complete -c sluice -s h -l help -d 'Print a summary'
for key in network src in-type in-name in-user in-port process process-path uid dscp
	complete -c sluice -n '__fish_seen_subcommand_from explain' -o $key -x -d 'What is known of the connection'
end
