package mqttd

// pair lets in a, which subscribes to t/# with QoS 2, and b.
const pair = in + "a> subscribe id=1 t/#:02; a< suback id=1 02; b> connect v5 clean id=b; b< connack 00;"

var publishClauses = []clause{
	{"2.2.1-2 3.3.1-2", "QoS 0 is never repeated, and has no packet id", in + "a> publish t=x dup m=1; a< disconnect code=81; a| closed"},
	{"2.2.1-4 4.3.2-1 4.3.3-1", "each delivery has an id of its own", pair + `b> publish t=t/1 q=1 id=5 m=1; b< puback id=5; b> publish t=t/1 q=1 id=5 m=2; b< puback id=5
		a< publish q=1 id=2 m=1; a< publish q=1 id=3 m=2`},
	{"2.2.1-5 4.3.3-4", "answers have the message's id", pair + `b> publish t=t/1 q=2 id=77 m=1; b< pubrec id=77; b> pubrel id=77; b< pubcomp id=77
		a< publish q=2 id=2; a> pubrec id=2; a< pubrel id=2; a> pubcomp id=2; a| quiet`},
	{"3.3.1-1 4.4.0-1 4.3.2-3 4.3.3-3", "what was not acknowledged comes again, marked, under its id", `a> connect v5 id=r1 p=11.00000064; a< connack 00
		a> subscribe id=1 r/#:02; a< suback id=1; b> connect v5 clean id=b; b< connack 00; b> publish t=r/1 q=1 id=1 m=1; b< puback id=1
		b> publish t=r/2 q=2 id=2 m=2; b< pubrec id=2; a< publish q=1 id=2 m=1 !dup; a< publish q=2 id=3 m=2 !dup; a| cut
		a> connect v5 id=r1 p=11.00000064; a< connack 00 present=1; a< publish q=1 id=2 m=1 dup; a< publish q=2 id=3 m=2 dup
		a> puback id=2; a> pubrec id=3; a< pubrel id=3; a> pubcomp id=3; a| quiet; a> disconnect p=11.00000000; a| closed`},
	{"4.3.3-5 4.3.3-6", "after PUBREL only that comes again", `a> connect v5 id=r2 p=11.00000064; a< connack 00; a> subscribe id=1 r/#:02; a< suback id=1
		b> connect v5 clean id=b; b< connack 00; b> publish t=r/2 q=2 id=2 m=2; b< pubrec id=2; a< publish q=2 id=2 m=2; a> pubrec id=2; a< pubrel id=2; a| cut
		a> connect v5 id=r2 p=11.00000064; a< connack 00 present=1; a< pubrel id=2; a> pubcomp id=2; a| quiet; a> disconnect p=11.00000000; a| closed`},
	{"3.3.1-3 4.3.2-2 4.3.3-2 4.3.1-1", "a repeated message is new to the subscriber", pair + "b> publish t=t/1 q=1 id=1 dup m=1; b< puback id=1; a< publish q=1 m=1 !dup"},
	{"3.3.1-4", "there is no QoS 3", in + "a> publish t=x q=3 id=1; a< disconnect code=81; a| closed"},
	{"3.3.1-5", "a retained message replaces the one before", pair + `b> publish t=k/1 retain m=1; b> publish t=k/1 retain q=1 id=1 m=2; b< puback id=1
		a> subscribe id=2 k/1:01; a< suback id=2; a< publish t=k/1 retain q=1 m=2; b> publish t=k/1 retain`},
	{"3.3.1-6 3.3.1-7", "an empty one removes it", pair + `b> publish t=k/2 retain m=1 q=1 id=1; b< puback id=1; a> subscribe id=2 k/2:00; a< suback id=2; a< publish t=k/2 m=1 retain
		b> publish t=k/2 retain q=1 id=1; b< puback id=1; a< publish t=k/2; a> subscribe id=3 k/2:00; a< suback id=3; a| quiet`},
	{"3.3.1-8", "a message without the flag leaves it", pair + `b> publish t=k/3 retain m=1; b> publish t=k/3 m=2; b> ping; b< pong
		a> subscribe id=2 k/3:00; a< suback id=2; a< publish t=k/3 m=1 retain; b> publish t=k/3 retain`},
	{"3.3.1-9 3.8.4-4", "retain handling 0 sends them each time", in + `a> publish t=k/4 retain m=1; a> subscribe id=2 k/+:00; a< suback id=2; a< publish t=k/4 retain
		a> subscribe id=3 k/+:00; a< suback id=3; a< publish t=k/4 retain m=1; a> publish t=k/4 retain`},
	{"3.3.1-10", "1 only the first time", in + `a> publish t=k/5 retain m=1; a> subscribe id=2 k/5:10; a< suback id=2; a< publish t=k/5 retain
		a> subscribe id=3 k/5:10; a< suback id=3; a| quiet; a> publish t=k/5 retain`},
	{"3.3.1-11", "2 never", in + "a> publish t=k/6 retain m=1; a> subscribe id=2 k/6:20; a< suback id=2; a| quiet; a> publish t=k/6 retain"},
	{"3.3.1-12", "the flag is not passed on", pair + "b> publish t=t/k retain m=1; a< publish t=t/k !retain m=1; b> publish t=t/k retain"},
	{"3.3.1-13", "but where that was asked for", pair + "a> subscribe id=2 u/k:08; a< suback id=2; b> publish t=u/k retain m=1; a< publish t=u/k retain m=1; b> publish t=u/k m=2; a< publish t=u/k !retain m=2; b> publish t=u/k retain"},
	{"3.3.2-1", "a topic is UTF-8", in + "a> 30 04 00 01 ff 00; a< disconnect code=81; a| closed"},
	{"3.3.2-2 4.7.0-1", "a topic has no wildcards", in + "a> publish t=x/# m=1; a< disconnect code=90; a| closed"},
	{"3.3.2-3 4.7.3-4", "topics go as they came to filters that match", pair + "b> publish t=T/1 m=0; b> publish t=t/Ä m=1; a< publish t=t/Ä m=1; b> publish t=t//x m=2; a< publish t=t//x m=2"},
	{"3.3.2-4 3.3.2-15 3.3.2-16 3.3.2-20 3.3.2-17 3.3.2-18 3.3.2-13 3.3.2-19", "properties are passed on as they came", pair + `
		b> publish t=t/p p=01.01.03.0001.63.08.0001.72.09.0002.00ff.26.0001.62.0001.31.26.0001.61.0001.32 m=1
		a< publish t=t/p p=0101030001630800017209000200ff26000162000131260001610001` + `32 m=1`},
	{"3.3.2-5", "a message that is too old is not delivered", `a> connect v5 id=e1 p=11.00000064; a< connack 00; a> subscribe id=1 e/#:01; a< suback id=1; a> disconnect; a| closed
		b> connect v5 clean id=b; b< connack 00; b> publish t=e/1 q=1 id=1 p=02.00000005 m=old; b< puback id=1; b> publish t=e/2 q=1 id=2 m=new; b< puback id=2; wait 10s
		a> connect v5 id=e1 p=11.00000064; a< connack 00 present=1; a< publish t=e/2 m=new; a> disconnect p=11.00000000; a| closed`},
	{"3.3.2-6", "what is left of its time is told", `a> connect v5 id=e2 p=11.00000064; a< connack 00; a> subscribe id=1 e/#:01; a< suback id=1; a> disconnect; a| closed
		b> connect v5 clean id=b; b< connack 00; b> publish t=e/1 q=1 id=1 p=02.00000064 m=1; b< puback id=1; wait 40s
		a> connect v5 id=e2 p=11.00000064; a< connack 00 present=1; a< publish t=e/1 m=1 p=~020000003; a> disconnect p=11.00000000; a| closed`},
	{"4.3.3-7 4.3.3-13", "what was sent with QoS 2 goes on when its time is over", `a> connect v5 id=e3 p=11.00000064; a< connack 00; a> subscribe id=1 e/#:02; a< suback id=1
		b> connect v5 clean id=b; b< connack 00; b> publish t=e/1 q=2 id=1 p=02.00000005 m=1; b< pubrec id=1; a< publish q=2 id=2 m=1; wait 10s
		a> pubrec id=2; a< pubrel id=2; a> pubcomp id=2; b> pubrel id=1; b< pubcomp id=1; a> disconnect p=11.00000000; a| closed`},
	{"3.3.2-7", "an alias ends with its connection", in + `a> publish t=al/1 p=23.0001 m=1; a| quiet; a> connect v5 clean id=a; a< connack 00
		a> publish t= p=23.0001 m=1; a< disconnect code=82; a| closed`},
	{"3.3.2-8", "there is no alias 0", in + "a> publish t=x p=23.0000 m=1; a< disconnect code=94; a| closed"},
	{"3.3.2-12", "aliases are taken up to what was said", pair + `b> publish t=t/a1 p=23.0001 m=1; a< publish t=t/a1 m=1; b> publish t=t/a4 p=23.0004 m=2; a< publish t=t/a4 m=2
		b> publish t= p=23.0001 m=3; a< publish t=t/a1 m=3; b> publish t=t/a5 p=23.0005 m=4; b< disconnect code=94; b| closed`},
	{"3.3.2-14", "a response topic has no wildcards", in + "a> publish t=x p=08.0001.23 m=1; a< disconnect code=82; a| closed"},
	{"3.3.4-1 4.3.2-4 4.3.3-8 4.3.3-11", "each QoS has its answer", in + `a> publish t=x m=1; a| quiet; a> publish t=x q=1 id=3 m=1; a< puback id=3
		a> publish t=x q=2 id=4 m=1; a< pubrec id=4; a> pubrel id=4; a< pubcomp id=4; a> pubrel id=4; a< pubcomp id=4 code=92`},
	{"3.3.4-2 3.3.4-3 3.3.4-4 4.8.2-3", "filters that overlap make one message", in + `a> subscribe id=1 p=0b.07 o/+:00; a< suback id=1; a> subscribe id=2 p=0b.09 o/#:01; a< suback id=2
		a> publish t=o/1 q=2 id=1 m=1; a< publish q=1 p=~0b m=1; a< pubrec id=1; a| quiet`},
	{"3.3.4-6", "a client's message has no subscription identifier", in + "a> publish t=x p=0b.01 m=1; a< disconnect code=81; a| closed"},
	{"3.3.4-9 4.9.0-1 4.9.0-2 4.9.0-3 3.3.4-10", "no more comes than the client takes", `a> connect v5 clean id=a p=21.0002; a< connack 00; a> subscribe id=1 f/#:01; a< suback id=1
		b> connect v5 clean id=b; b< connack 00; b> publish t=f/1 q=1 id=1 m=1; b< puback id=1; b> publish t=f/1 q=1 id=2 m=2; b< puback id=2; b> publish t=f/1 q=1 id=3 m=3; b< puback id=3
		a< publish id=2 m=1; a< publish id=3 m=2; a| quiet; a> subscribe id=9 g/#:01; a< suback id=9; a> puback id=3; a< publish id=4 m=3`},
	{"3.4.2-1 3.4.2-2", "PUBACK has a code of its own", `a> connect v5 clean id=a p=27.00000018; a< connack 00; a> publish t=forbidden/x q=1 id=1 m=1; a< puback id=1 code=87; a> publish t=nobody/here q=1 id=2 m=1; a< puback id=2 code=10`},
	{"3.5.2-1 3.5.2-2", "so has PUBREC", in + "a> publish t=forbidden/x q=2 id=1 m=1; a< pubrec id=1 code=87; a> publish t=nobody/here q=2 id=2 m=1; a< pubrec id=2 code=10"},
	{"3.6.1-1", "PUBREL's flags are as they must be", in + "a> 60 02 00 01; a< disconnect code=81; a| closed"},
	{"3.6.2-1 3.7.2-1", "unknown ids have their code", in + "a> pubrec id=44; a< pubrel id=44 code=92; a> pubrel id=45; a< pubcomp id=45 code=92; a> pubrec id=4 code=44; a< disconnect code=82; a| closed"},
	{"4.3.2-5", "after PUBACK an id is free", pair + "b> publish t=t/1 q=1 id=1 m=1; b< puback id=1; b> publish t=t/1 q=1 id=1 dup m=2; b< puback id=1; a< publish m=1; a< publish m=2"},
	{"4.3.3-9", "after a PUBREC that failed too", pair + "b> publish t=forbidden/1 q=2 id=1 m=1; b< pubrec id=1 code=87; b> publish t=t/1 q=2 id=1 m=2; b< pubrec id=1 !code; a< publish m=2"},
	{"4.3.3-10", "until PUBREL a message is taken once", pair + "b> publish t=t/1 q=2 id=1 m=1; b< pubrec id=1; b> publish t=t/1 q=2 id=1 dup m=1; b< pubrec id=1; a< publish m=1; a> pubrec id=2; a< pubrel id=2; a| quiet"},
	{"4.3.3-12", "and after PUBCOMP it is new", pair + `b> publish t=t/1 q=2 id=1 m=1; b< pubrec id=1; b> pubrel id=1; b< pubcomp id=1; b> publish t=t/1 q=2 id=1 m=2; b< pubrec id=1
		a< publish m=1; a< publish m=2`},
	{"4.4.0-2 4.8.2-6", "a refused message is over", `a> connect v5 id=n1 p=11.00000064; a< connack 00; a> subscribe id=1 $share/g/n/#:02 $share/h/n2/#:01; a< suback id=1
		b> connect v5 clean id=b; b< connack 00; b> publish t=n/1 q=2 id=1 m=1; b< pubrec id=1; a< publish id=2 m=1; a> pubrec id=2 code=87
		b> publish t=n2/1 q=1 id=2 m=1; b< puback id=2; a< publish id=3 m=1; a> puback id=3 code=97; a| quiet; a| cut
		a> connect v5 id=n1 p=11.00000064; a< connack 00 present=1; a| quiet; a> disconnect p=11.00000000; a| closed`},
	{"4.6.0-5 4.6.0-6", "messages keep their order", pair + `b> publish t=t/1 q=1 id=1 m=1; b> publish t=t/1 q=1 id=2 m=2; b> publish t=t/1 q=1 id=3 m=3
		a< publish m=1; a< publish m=2; a< publish m=3`},
}
