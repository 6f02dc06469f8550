# SPDX-License-Identifier: MIT
# bash completion of sluice(8)
_sluice()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}

	COMPREPLY=()
	case $prev in
	-d | -home | --home | -ext-ui | --ext-ui)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
		return
		;;
	-f | -file | --file | -ext-ctl-unix | --ext-ctl-unix)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	-config | --config | -ext-ctl | --ext-ctl | -ext-ctl-pipe | --ext-ctl-pipe | -secret | --secret)
		return
		;;
	esac
	if [[ ${COMP_WORDS[1]} == convert-ruleset && $COMP_CWORD -gt 1 ]]; then
		case $COMP_CWORD in
		2) mapfile -t COMPREPLY < <(compgen -W 'domain ipcidr classical' -- "$cur") ;;
		3) mapfile -t COMPREPLY < <(compgen -W 'yaml text mrs' -- "$cur") ;;
		*) compopt -o filenames && mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
		esac
	elif [[ ${COMP_WORDS[1]} == explain && $cur == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W '-d -network -src -in-type -in-name -in-user -in-port -process -process-path -uid -dscp' -- "$cur")
	elif [[ $cur == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W '-d --home -f --file -config -t --test -v --version -m --geodata-mode -ext-ctl -ext-ctl-unix
			-ext-ctl-pipe -ext-ui -secret -force -h --help' -- "$cur")
	elif [[ $COMP_CWORD == 1 ]]; then
		mapfile -t COMPREPLY < <(compgen -W 'run test reload restart status explain upgrade stop convert-ruleset' -- "$cur")
	fi
}
complete -F _sluice sluice
