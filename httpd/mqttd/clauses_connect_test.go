package mqttd

// in lets a client in, without a session that is kept.
const in = "a> connect v5 clean id=a; a< connack 00 present=0;"

var connectClauses = []clause{
	{"1.5.4-1", "text that is not UTF-8 ends the connection", in + "a> 30 05 00 02 ed a0 00; a< disconnect code=81; a| closed"},
	{"1.5.4-2", "text with NUL ends the connection", in + "a> 30 05 00 02 61 00 00; a< disconnect code=81; a| closed"},
	{"1.5.4-3", "a byte order mark is text as any other", in + `a> subscribe id=1 x/+:00; a< suback id=1 00
		a> 30 09 00 05 78 2f ef bb bf 00 21; a< publish t=` + "x/\uFEFF" + ` m=!`},
	{"1.5.5-1", "a length that is not in its shortest form is none", in + "a> 30 85 00 00 01 61 00 00; a< disconnect code=81; a| closed"},
	{"1.5.7-1", "both texts of a user property are judged", in + "a> publish t=x p=26.0001.61.0001.00; a< disconnect code=81; a| closed"},
	{"2.1.3-1", "reserved flags must be as they are listed", in + "a> c1 00; a< disconnect code=81; a| closed"},
	{"2.2.2-1", "a packet without properties says so", in + "a> 32 05 00 01 78 00 07; a< disconnect code=81; a| closed"},
	{"3.1.0-1", "what does not begin with CONNECT is not listened to", "a> ping; a| closed"},
	{"3.1.0-2", "a second CONNECT ends the connection", in + "a> connect v5 clean id=a here; a< disconnect code=82; a| closed"},
	{"3.1.2-1", "another protocol is not listened to", "a> 10 0d 00 04 4d 51 54 58 05 02 00 00 00 00 00; a| closed"},
	{"3.1.2-2", "another version is told so", "a> 10 0d 00 04 4d 51 54 54 06 02 00 00 00 00 00; a| refused"},
	{"3.1.2-3", "the reserved flag of CONNECT is 0", "a> 10 0d 00 04 4d 51 54 54 05 03 00 00 00 00 00; a< connack 81; a| closed"},
	{"3.1.2-4 3.1.4-4 3.2.2-2", "a clean start ends what was there", `a> connect v5 id=k p=11.00000064; a< connack 00 present=0
		a> subscribe id=1 old/x:01; a< suback id=1 01; a> disconnect; a| closed
		a> connect v5 clean id=k p=11.00000064; a< connack 00 present=0; a> publish t=old/x m=1; a| quiet; a> disconnect p=11.00000000; a| closed`},
	{"3.1.2-5 3.1.2-23 3.2.2-3 4.1.0-1", "a session is there again", `a> connect v5 id=k2 p=11.00000064; a< connack 00 present=0
		a> subscribe id=1 old/y:01; a< suback id=1 01; a> disconnect; a| closed; b> connect v5 clean id=b; b< connack 00
		b> publish t=old/y m=1 q=1 id=9; b< puback id=9; a> connect v5 id=k2 p=11.00000064; a< connack 00 present=1
		a< publish t=old/y q=1 m=1; a> puback id=1; a> disconnect p=11.00000000; a| closed`},
	{"3.1.2-6", "without a clean start there is a session all the same", "a> connect v5 id=new1; a< connack 00 present=0; a| quiet"},
	{"3.1.2-7 3.1.2-8 3.1.2-9 3.1.2-12 3.1.2-14", "a will is sent when the connection breaks", `b> connect v5 clean id=b; b< connack 00
		b> subscribe id=1 w/1:02; b< suback id=1 02; a> connect v5 clean id=a will=w/1:gone willqos=2; a< connack 00; a| cut
		b< publish t=w/1 q=2 m=gone !retain; b> pubrec id=1; b< pubrel id=1; b> pubcomp id=1; b> subscribe id=2 w/1:00; b< suback id=2; b| quiet`},
	{"3.1.2-10 3.14.4-3", "a will is forgotten with DISCONNECT 0", `b> connect v5 clean id=b; b< connack 00; b> subscribe id=1 w/2:00; b< suback id=1
		a> connect v5 clean id=a will=w/2:gone; a< connack 00; a> disconnect; a| closed; b| quiet`},
	{"3.1.2-11", "a will's QoS without a will is refused", "a> 10 0d 00 04 4d 51 54 54 05 0a 00 00 00 00 00; a< connack 81; a| closed"},
	{"3.1.2-13", "a will's retain without a will is refused", "a> 10 0d 00 04 4d 51 54 54 05 22 00 00 00 00 00; a< connack 81; a| closed"},
	{"3.1.2-15", "a will can be retained", `a> connect v5 clean id=a will=w/3:gone willretain; a< connack 00; a> disconnect code=04; a| closed
		b> connect v5 clean id=b; b< connack 00; b> subscribe id=1 w/3:00; b< suback id=1; b< publish t=w/3 m=gone retain
		b> publish t=w/3 retain`},
	{"3.1.2-16 3.1.2-18", "what no flag announced is too much", "a> 10 10 00 04 4d 51 54 54 05 02 00 00 00 00 00 00 01 61; a< connack 81; a| closed"},
	{"3.1.2-17 3.1.3-1 3.1.3-3 3.1.4-1", "a name that was announced must be there", "a> 10 0d 00 04 4d 51 54 54 05 82 00 00 00 00 00; a< connack 81; a| closed"},
	{"3.1.2-19", "so must a password", "a> 10 0d 00 04 4d 51 54 54 05 42 00 00 00 00 00; a< connack 81; a| closed"},
	{"3.1.2-24 3.1.2-25", "what is too long for the client is over", `a> connect v5 clean id=a p=27.00000032; a< connack 00; a> subscribe id=1 big/#:01
		a< suback id=1; b> connect v5 clean id=b; b< connack 00
		b> publish t=big/1 m=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx q=1 id=1; b< puback id=1; b> publish t=big/2 m=y q=1 id=2; b< puback id=2
		a< publish t=big/2 m=y`},
	{"3.1.2-27", "no topic alias without leave", in + "a> subscribe id=1 x/a:00; a< suback id=1; a> publish t=x/a m=1; a< publish t=x/a m=1 !p; a> publish t=x/a m=2; a< publish t=x/a m=2 !p"},
	{"3.1.2-29", "no reason string where none is wanted", `a> connect v5 clean id=a p=17.00; a< connack 00; a> publish t=forbidden/a q=1 id=1 m=1; a< puback id=1 code=87`},
	{"3.1.3-2", "sessions are known by the client's identifier", `a> connect v5 id=k3 p=11.00000064; a< connack 00 present=0; a> disconnect; a| closed
		a> connect v5 id=k4 p=11.00000064; a< connack 00 present=0; a> disconnect p=11.00000000; a| closed
		a> connect v5 id=k3 p=11.00000064; a< connack 00 present=1; a> disconnect p=11.00000000; a| closed`},
	{"3.1.3-4", "the client's identifier is UTF-8", "a> 10 0e 00 04 4d 51 54 54 05 02 00 00 00 00 01 ff; a< connack 81; a| closed"},
	{"3.1.3-5 3.1.4-5", "letters and digits make an identifier", "a> connect v5 clean id=aZ0123456789abcdefghijk; a< connack 00"},
	{"3.1.3-6 3.1.3-7 3.2.2-16", "an identifier is given to who has none", "a> connect v5 clean id=; a< connack 00 p=~12001b; a| quiet"},
	{"3.1.3-8", "an identifier that is too long is refused", "a> connect v5 clean id=" + long(600) + "; a< connack 85; a| closed"},
	{"3.1.3-9", "a will waits for its delay, and not longer than for its client", `b> connect v5 clean id=b; b< connack 00; b> subscribe id=1 w/4:00; b< suback id=1
		a> connect v5 id=k5 p=11.00000064 will=w/4:gone willp=18.00000014; a< connack 00; a| cut; b| quiet
		a> connect v5 id=k5 p=11.00000064; a< connack 00 present=1; wait 30s; b| quiet; a> disconnect p=11.00000000; a| closed
		a> connect v5 id=k5 p=11.00000064 will=w/4:gone willp=18.00000014; a< connack 00; a| cut; b| quiet; wait 30s; b< publish t=w/4 m=gone`},
	{"3.1.3-10", "a will's user properties keep their order", `b> connect v5 clean id=b; b< connack 00; b> subscribe id=1 w/5:00; b< suback id=1
		a> connect v5 clean id=a will=w/5:gone willp=26.0001.62.0001.31.26.0001.61.0001.32; a< connack 00; a| cut
		b< publish t=w/5 p=26000162000131260001610001` + `32 m=gone`},
	{"3.1.3-11", "a will's topic is UTF-8 without wildcards", "a> connect v5 clean id=a will=w/+:gone; a< connack 90; a| closed"},
	{"3.1.3-12", "a user's name is UTF-8", "a> 10 10 00 04 4d 51 54 54 05 82 00 00 00 00 00 00 01 ff; a< connack 81; a| closed"},
	{"3.1.4-2 3.2.2-6 3.2.2-7 3.2.2-8", "who may not in is told so", "a> connect v5 clean id=a user=x pass=wrong; a< connack 86 present=0; a| closed"},
	{"3.1.4-3 3.14.4-1 3.14.4-2", "a client takes its session over", `a> connect v5 clean id=same; a< connack 00; b> connect v5 clean id=same; b< connack 00
		a< disconnect code=8e; a| closed; b| quiet`},
	{"3.1.4-6 3.14.0-1", "nothing is heard after a refusal, and no DISCONNECT comes", `b> connect v5 clean id=b; b< connack 00; b> subscribe id=1 after/x:00; b< suback id=1
		a> connect v5 clean id=a user=x pass=wrong; a> publish t=after/x m=1; a< connack 86; a| closed; b| quiet`},
	{"3.2.0-1 3.2.0-2 3.2.2-1", "one CONNACK comes first", in + "a| quiet"},
	{"3.2.2-19", "a reason string that is too long is left out", "a> connect v5 clean id=a user=x pass=wrong p=27.0000000a; a< connack 86 p=; a| closed"},
	{"4.12.0-1", "there is no enhanced authentication", "a> connect v5 clean id=a p=15.0001.78; a< connack 8c; a| closed"},
	{"4.12.0-6 3.15.1-1", "nor is AUTH taken", in + "a> f0 00; a< disconnect code=82; a| closed"},
	{"3.12.4-1", "a ping is answered", in + "a> ping; a< pong"},
	{"3.14.1-1", "DISCONNECT's flags are 0", in + "a> e1 00; a< disconnect code=81; a| closed"},
	{"3.14.2-2", "the hub's DISCONNECT has a code and no expiry", in + "a> f0 00; a< disconnect code=82; a| closed"},
	{"3.14.2-3", "nor a text that is too long for the client", "a> connect v5 clean id=a p=27.00000018; a< connack 00; a> f0 00; a< disconnect code=82; a| closed"},
	{"4.13.1-1 4.13.2-1", "an error is told before the connection ends", in + "a> 30 02 00 00; a< disconnect code=81; a| closed"},
}

func long(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'x'
	}
	return string(b)
}
