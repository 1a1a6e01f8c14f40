package mqttd

var subscribeClauses = []clause{
	{"2.2.1-6 3.8.4-1 3.8.4-2", "SUBACK and UNSUBACK have their packet's id", in + "a> subscribe id=513 x:00; a< suback id=513 00; a> unsubscribe id=514 x; a< unsuback id=514 00"},
	{"3.8.1-1", "SUBSCRIBE's flags are as they must be", in + "a> 80 07 00 01 00 00 01 78 00; a< disconnect code=81; a| closed"},
	{"3.8.3-1", "a filter is UTF-8", in + "a> 82 07 00 01 00 00 01 ff 00; a< disconnect code=81; a| closed"},
	{"3.8.3-2", "there is one filter at least", in + "a> subscribe id=1; a< disconnect code=82; a| closed"},
	{"3.8.3-3", "no local is kept", in + `a> subscribe id=1 l/1:04; a< suback id=1; b> connect v5 clean id=b; b< connack 00; a> publish t=l/1 m=1; a| quiet
		b> publish t=l/1 m=2; a< publish m=2`},
	{"3.8.3-4", "no local and shared do not go together", in + "a> subscribe id=1 $share/g/x:04; a< disconnect code=82; a| closed"},
	{"3.8.3-5", "reserved options are 0", in + "a> subscribe id=1 x:40; a< disconnect code=81; a| closed"},
	{"3.8.4-3", "a subscription replaces the one to the same filter", in + `a> subscribe id=1 s/1:00; a< suback id=1 00; a> subscribe id=2 s/1:01; a< suback id=2 01
		a> publish t=s/1 q=1 id=1 m=1; a< publish q=1 m=1; a< puback id=1; a| quiet`},
	{"3.8.4-5 3.8.4-6 3.8.4-7 3.9.3-1 3.9.3-2", "each filter has its code, in order", in + "a> subscribe id=1 s/1:02 s/#/x:01 forbidden/x:00 s/2:00; a< suback id=1 02 8f 87 00"},
	{"3.8.4-8", "the lower QoS holds", in + "a> subscribe id=1 s/1:01; a< suback id=1 01; a> publish t=s/1 q=2 id=1 m=1; a< publish q=1 m=1; a< pubrec id=1; a> publish t=s/1 m=2; a< publish q=0 m=2"},
	{"3.10.1-1", "UNSUBSCRIBE's flags are as they must be", in + "a> a0 06 00 01 00 00 01 78; a< disconnect code=81; a| closed"},
	{"3.10.3-1", "its filters are UTF-8", in + "a> a2 06 00 01 00 00 01 ff; a< disconnect code=81; a| closed"},
	{"3.10.3-2", "and one at least", in + "a> unsubscribe id=1; a< disconnect code=82; a| closed"},
	{"3.10.4-1 3.10.4-2", "a filter goes by its letters", in + `a> subscribe id=1 s/+:00 s/1:00; a< suback id=1 00 00; a> unsubscribe id=2 s/+; a< unsuback id=2 00
		a> publish t=s/2 m=1; a| quiet; a> publish t=s/1 m=2; a< publish t=s/1 m=2; a| quiet`},
	{"3.10.4-3", "what was begun is brought to its end", in + `a> subscribe id=1 s/1:02; a< suback id=1; a> publish t=s/1 q=2 id=1 m=1; a< publish q=2 id=2 m=1; a< pubrec id=1; a> unsubscribe id=2 s/1
		a< unsuback id=2; a> pubrec id=2; a< pubrel id=2; a> pubcomp id=2; a| quiet`},
	{"3.10.4-4 3.10.4-5 3.10.4-6 3.11.3-1 3.11.3-2", "each has its code, in order", in + "a> subscribe id=1 s/1:00; a< suback id=1; a> unsubscribe id=9 s/2 s/1; a< unsuback id=9 11 00"},
	{"4.7.1-1 4.7.1-2", "wildcards stand where they may", in + "a> subscribe id=1 #:00 a/#:00 a#:00 #/a:00 +:00 +/a/+:00 a+:00 a/+b:00; a< suback id=1 00 00 8f 8f 00 00 8f 8f"},
	{"4.7.2-1", "wildcards do not begin with a dollar", in + "a> subscribe id=1 #:00 +/x:00; a< suback id=1; a> publish t=$own/x m=1; a| quiet; a> subscribe id=2 $own/#:00; a< suback id=2; a> publish t=$own/x m=2; a< publish t=$own/x m=2"},
	{"4.7.3-1", "a filter is not empty", in + "a> subscribe id=1 :00; a< disconnect code=81; a| closed"},
	{"4.7.3-2", "a filter has no NUL", in + "a> 82 08 00 01 00 00 02 61 00 00; a< disconnect code=81; a| closed"},
	{"4.7.3-3", "a topic has its length before it", in + "a> 30 04 ff ff 61 00; a< disconnect code=81; a| closed"},
	{"4.8.2-1 4.8.2-2", "a shared filter has a name and a filter", in + "a> subscribe id=1 $share//x:00 $share/g:00 $share/g/:00 $share/g+/x:00 $share/g/x:00; a< suback id=1 8f 8f 8f 8f 00"},
	{"4.8.2-5", "and goes to nobody else where the client's session ends", `a> connect v5 id=s2 p=11.00000064; a< connack 00; a> subscribe id=1 $share/g/se/#:02; a< suback id=1
		b> connect v5 clean id=b; b< connack 00; b> publish t=se/1 q=2 id=1 m=1; b< pubrec id=1; a< publish id=2 m=1; a| cut
		c> connect v5 clean id=c; c< connack 00; c> subscribe id=1 $share/g/se/#:02; c< suback id=1; wait 200s
		a> connect v5 id=s2 p=11.00000064; a< connack 00 present=0; a| quiet; c| quiet; a> disconnect p=11.00000000; a| closed`},
	{"4.8.2-4", "a message that was begun stays with its client", `a> connect v5 id=s1 p=11.00000064; a< connack 00; a> subscribe id=1 $share/g/s/#:02; a< suback id=1
		b> connect v5 clean id=b; b< connack 00; b> publish t=s/1 q=2 id=1 m=1; b< pubrec id=1; a< publish id=2 m=1; a| cut
		c> connect v5 clean id=c; c< connack 00; c> subscribe id=1 $share/g/s/#:02; c< suback id=1; c| quiet
		a> connect v5 id=s1 p=11.00000064; a< connack 00 present=1; a< publish id=2 m=1 dup; a> pubrec id=2; a< pubrel id=2; a> pubcomp id=2
		a> disconnect p=11.00000000; a| closed; c| quiet`},
}

var sessionClauses = []clause{
	{"4.1.0-2", "a session ends when its time is over", `a> connect v5 id=x1 p=11.00000005; a< connack 00 present=0; a> disconnect; a| closed; wait 10s
		a> connect v5 id=x1 p=11.00000005; a< connack 00 present=0; a> disconnect p=11.00000000; a| closed`},
	{"4.5.0-1", "a message is for those who are away, too", `a> connect v5 id=x2 p=11.00000064; a< connack 00; a> subscribe id=1 aw/#:01; a< suback id=1; a> disconnect; a| closed
		b> connect v5 clean id=b; b< connack 00; b> publish t=aw/1 q=1 id=1 m=1; b< puback id=1; a> connect v5 id=x2 p=11.00000064; a< connack 00 present=1
		a< publish t=aw/1 m=1 !dup; a> puback id=2; a> disconnect p=11.00000000; a| closed`},
}
